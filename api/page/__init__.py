"""The page at `/`: what a browser shows of jobs, data, models, workers and keys."""

"""All pages, for the application to answer."""

from __future__ import annotations

from api.page import compare, data, demo, job, jobs, keys, login, models, new, static_files, stream, workers

PAGES = (jobs, stream, job, compare, new, data, models, workers, keys, demo, login, static_files)

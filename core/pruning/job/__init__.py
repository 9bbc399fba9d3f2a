"""A job: its stages, from rows to a published checkpoint."""

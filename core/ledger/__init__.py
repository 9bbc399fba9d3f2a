"""What is known: tenants, data sets, jobs, attempts, events and files, in a database and a content-addressed store.

SQLAlchemy on SQLite and PostgreSQL; the one state machine of a job is `jobs/states.py`. No torch, no web.
"""

"""What is learned from: files of the world become tables of typed columns, and say what was understood of them.

Enters: a file, or a job's tables. Nothing here knows of the web, the database or torch; it runs in a
process of its own.
"""

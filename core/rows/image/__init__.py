"""Rows that are pictures: files of them become a table, each is opened within bounds, and made what a model reads.

Enters: the bytes of a picture. They are decoded in a reader's process, or a job's, and never in the API's.
"""

"""Rows that are texts, pairs of texts, or the words of one."""

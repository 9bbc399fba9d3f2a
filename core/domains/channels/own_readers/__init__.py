"""Readers with channels of their own (UPSCALE, arXiv 2307.08771)."""

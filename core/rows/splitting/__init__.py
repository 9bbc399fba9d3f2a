"""Honest splits: which rows are trained on, which are held out, and whether labels can be learned from them."""

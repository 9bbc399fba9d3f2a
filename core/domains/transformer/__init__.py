"""Transformers: heads, neurons and layers; the gated network, and the cut."""

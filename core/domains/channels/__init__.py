"""Convolutional classifiers: channels that go together, what they cost, the gated network, and the cut.

Constrained: all readers of a tensor keep the same channels. What loads no torch: `graph`, `cost`, `fit`.
"""

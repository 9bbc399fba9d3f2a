"""Convolutional classifiers: channels that go together, what they cost, the gated network, and the cut.

All readers of a tensor keep the same channels, but where a job asks for readers of their own (own_readers/).
"""

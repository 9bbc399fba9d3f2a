"""The graph of a network, read from one exported run."""

"""The command line: a supervisor for one machine (`serve`), a thin client for the rest, and the demo."""

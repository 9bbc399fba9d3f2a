"""Commands of a server's own machine: a supervisor for all parts (`serve`), keys, the schema, the demo."""

"""Takes jobs: announces, claims, runs each in a child process, relays what it says. Torch is loaded by what
it starts aside: `worker.child`, `worker.probe`."""

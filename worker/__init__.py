"""Takes jobs: announces, claims, runs each in a child process, relays what it says. Only `worker.child` loads torch."""

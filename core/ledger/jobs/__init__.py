"""Jobs: their states, what their owner, their worker and the relay do to them, and how they are looked for."""

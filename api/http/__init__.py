"""How requests are taken and answered, whatever they ask: who asks, bounds, problems, pages, zips."""

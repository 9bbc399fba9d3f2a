"""What the API answers at its addresses, a file a kind of thing."""

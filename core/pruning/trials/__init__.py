"""`auto`: which way to transfer, settled by short trials."""

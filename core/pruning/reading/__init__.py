"""What a job starts from: its tables as encoded rows, and the dense network."""

"""What a user with few rows would pick instead of a pruned model, on the same rows, processor and day."""

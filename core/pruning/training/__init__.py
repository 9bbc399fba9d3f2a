"""The one training loop: batches, losses, coupling of tasks, checkpoints."""

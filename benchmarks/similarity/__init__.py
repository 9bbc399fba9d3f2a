"""What pruned embedding models keep of a search, beside what a user would pick instead."""

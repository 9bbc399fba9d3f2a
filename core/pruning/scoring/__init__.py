"""What each unit is worth, and what a budget makes of that."""

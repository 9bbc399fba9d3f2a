"""What can be cut: blocks of units, their prices, and what fits a budget."""

"""What steps cost: the tables that searches read."""

"""Schedule searches: times, counts and reveal orders for a model, from data."""

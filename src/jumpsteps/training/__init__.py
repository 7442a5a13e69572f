"""Losses, the training loop, recipes."""

"""Checkpoint formats, one module for each published family."""

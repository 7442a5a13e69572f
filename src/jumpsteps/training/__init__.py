"""Losses, the training loop, and recipes of the shipped models."""

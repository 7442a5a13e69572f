"""Searches: schedules and orders for a model, from data."""

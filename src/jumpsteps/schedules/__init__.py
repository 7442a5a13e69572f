"""Schedules: the times of a run, or how many sites each step reveals, and in which order."""

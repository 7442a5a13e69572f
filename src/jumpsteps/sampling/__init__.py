"""Samplers: one step of the reverse process each, and the loop that runs them."""

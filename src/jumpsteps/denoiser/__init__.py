"""Denoisers: what a network (or an exact posterior) says about the data, and how it is called."""

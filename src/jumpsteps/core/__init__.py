"""Shared by all packages: exact random draws, masks of sites, tensors, information, files."""

"""Models whose distributions can be computed exactly: the ground truth of tests, demo and docs."""

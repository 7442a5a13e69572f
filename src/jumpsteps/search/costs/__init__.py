"""Estimates of what the steps of a schedule cost, in nats per sequence."""

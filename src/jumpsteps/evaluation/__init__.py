"""Metrics, comparisons with intervals, reports and plots."""

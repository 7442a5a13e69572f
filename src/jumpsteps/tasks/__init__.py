"""Tasks: data, a metric and a way to show a sample."""

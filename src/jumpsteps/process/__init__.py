"""Forward processes: noise schedules and corruption kernels."""

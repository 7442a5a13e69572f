"""Schedules in other libraries' pipelines, and on the Hugging Face hub."""

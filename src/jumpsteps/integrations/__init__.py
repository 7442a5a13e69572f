"""Schedules in the pipelines of other libraries and on the Hugging Face hub."""

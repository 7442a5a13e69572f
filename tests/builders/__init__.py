"""What tests build more than once: statistical tests, kernels, models and tokenizers."""

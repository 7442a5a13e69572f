"""The builders under their former address; import them from ``builders`` instead."""

from builders.kernels import (
    KERNELS,
    SCORE_KERNELS,
    gaussian_rates,
    kernel,
    one_way_rates,
    series,
)
from builders.models import ExactLogScore, Tabulated, TwoSites, prior_distribution
from builders.statistics import LEVEL, chi_square_p, seeded, two_sample_p
from builders.text import save_words

__all__ = [
    "KERNELS",
    "LEVEL",
    "SCORE_KERNELS",
    "ExactLogScore",
    "Tabulated",
    "TwoSites",
    "chi_square_p",
    "gaussian_rates",
    "kernel",
    "one_way_rates",
    "prior_distribution",
    "save_words",
    "seeded",
    "series",
    "two_sample_p",
]

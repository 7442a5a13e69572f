"""A hash of a rate matrix, by which kernels of the same name are told apart."""

import hashlib

import numpy as np
from torch import Tensor

__all__ = ["hash_of_rates"]

BITS = 16
"""Binary digits of a rate that count: what a computer rounds otherwise is no other kernel."""


def hash_of_rates(rates: Tensor) -> str:
    """SHA-256 of R_b, float64 [V, V], each rate rounded to ``BITS`` binary digits."""
    digits, exponent = np.frexp(rates.cpu().numpy())
    rounded = np.ldexp(np.rint(np.ldexp(digits, BITS)), exponent - BITS) + 0.0
    return hashlib.sha256(rounded.astype("<f8").tobytes()).hexdigest()

"""Measures of text that a perplexity must not be read without: entropy, repetition, words.

A sampler that repeats itself has a low perplexity, so these stand beside it. Sequences are tokens
int64 [n, L], words those of their texts.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

__all__ = [
    "distinct_share",
    "known_share",
    "repeated_share",
    "unigram_entropy",
    "whole_words",
    "word_entropy",
]

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def unigram_entropy(x: Tensor) -> float:
    """Entropy of the tokens of all sequences, in nats."""
    p = torch.bincount(x.flatten()).double() / x.numel()
    return -float(torch.xlogy(p, p).sum())


def distinct_share(x: Tensor, size: int) -> float:
    """Distinct-n (Li et al. 2016): different runs of ``size`` tokens as a share of all runs."""
    runs = x.unfold(1, size, 1).reshape(-1, size)
    return len(torch.unique(runs, dim=0)) / len(runs)


def repeated_share(x: Tensor, size: int) -> Tensor:
    """The share of runs of ``size`` tokens that occurred before in the same sequence, [n]."""
    runs = x.unfold(1, size, 1)
    shares = [1 - len(torch.unique(one, dim=0)) / len(one) for one in runs]
    return torch.tensor(shares, dtype=torch.float64)


def whole_words(text: str) -> list[str]:
    """The words of a text in lower case, without the first and the last, which may be cut off."""
    return [word.lower() for word in WORD.findall(text)][1:-1]


def word_entropy(words: Iterable[str]) -> float:
    """Entropy of the frequencies of words, in nats.

    Raises:
        ValueError: no word.
    """
    counts = Counter(words)
    total = counts.total()
    if total == 0:
        raise ValueError("there is no word to count; pass longer texts")
    return -sum(n / total * math.log(n / total) for n in counts.values())


def known_share(words: Sequence[str], known: Collection[str]) -> float:
    """The share of the words that occur in ``known``, such as the words of the training data.

    Raises:
        ValueError: no word.
    """
    if not words:
        raise ValueError("there is no word to look up; pass longer texts")
    return sum(word in known for word in words) / len(words)

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
    runs = numbered_runs(x, size)
    return len(runs.unique()) / runs.numel()


def repeated_share(x: Tensor, size: int) -> Tensor:
    """The share of runs of ``size`` tokens that occurred before in the same sequence, [n]."""
    runs = numbered_runs(x, size).sort(1).values
    return (runs[:, 1:] == runs[:, :-1]).sum(1, dtype=torch.float64) / runs.shape[1]


def numbered_runs(x: Tensor, size: int) -> Tensor:
    """A number for each run of ``size`` tokens, the same for equal runs only, int64 [n, L - size +
    1].
    """
    runs, symbols = x, int(x.max()) + 1
    count = symbols
    for start in range(1, size):
        if count * symbols >= 2**63:
            seen, runs = runs.unique(return_inverse=True)
            count = len(seen)
        runs = runs[:, :-1] * symbols + x[:, start:]
        count *= symbols
    return runs


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

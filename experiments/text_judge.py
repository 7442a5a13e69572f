"""Measures of text samples: an evaluator's perplexity, and all that it must not be read without.

* evaluator: nats per token (bits for characters) under an autoregressive model;
* mauve: MAUVE of the evaluator's mean features, against n sequences of the test books, per cent,
  with its bootstrap interval's half width (``evaluation.mauve``);
* nats: a diffusion model's own any-order bound per token, if one is named;
* entropy: of the tokens of all samples, nats;
* word entropy: of the words of all samples, bits; known: the share of words that the training books
  hold, per cent; both without the first and last word of a sample, which may be cut off;
* distinct-2, distinct-3: different pairs and triples of neighbours in all samples, per cent of all;
* repeated-4: fours of neighbours that occurred before in the same sample, per cent;
* Hamming: the mean share of positions at which two samples differ;
* tokens, pairs: the distance of the histograms of tokens, and of neighbouring pairs, of single
  samples from those of n sequences of the test books, times 1e4 (``histogram_similarity``, twice
  the value is an energy distance).

Entropies, distinct-n and MAUVE depend on n: compare values of one n only.
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from corrector_plans import interval, seeded, squared_discrepancy
from jumpsteps.evaluation.agreement import hamming_distance
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.evaluation.mauve import mauve
from jumpsteps.evaluation.text_measures import (
    distinct_share,
    known_share,
    repeated_share,
    unigram_entropy,
    whole_words,
    word_entropy,
)
from jumpsteps.evaluation.two_sample import histogram_similarity
from jumpsteps.models import LoadedModel
from jumpsteps.models.networks.autoregressive import Autoregressive
from novels import Novels
from results import Json

FORMATS = {
    "mauve, %": "{:.1f} ±{:.1f}",
    "nats": "{:.3f} ±{:.3f}",
    "entropy": "{:.3f}",
    "word entropy": "{:.2f}",
    "known, %": "{:.1f}",
    "distinct-2, %": "{:.1f}",
    "distinct-3, %": "{:.1f}",
    "repeated-4, %": "{:.2f} ±{:.2f}",
    "Hamming": "{:.3f}",
    "tokens": "{:.2f} ±{:.2f}",
    "pairs": "{:.2f} ±{:.2f}",
}


@dataclass(frozen=True)
class Judge:
    """What measures samples int64 [n, L].

    Attributes:
        evaluator: autoregressive model; None to leave its columns empty.
        reference: sequences of the test books, int64 [n, L].
        known: the words of the training books.
        batch: sequences that the evaluator reads at a time.
        model: for the column "nats"; None to leave it out.
    """

    evaluator: Autoregressive | None
    novels: Novels
    reference: Tensor
    known: frozenset[str]
    device: str
    batch: int
    model: LoadedModel | None = None

    @property
    def formats(self) -> dict[str, str]:
        """Title -> format of the column."""
        unit = "bits" if self.novels.characters else "nats"
        formats = {f"evaluator, {unit}": "{:.3f} ±{:.3f}"} | FORMATS
        if self.model is None:
            del formats["nats"]
        return formats

    @cached_property
    def reference_features(self) -> Tensor:
        return self.read(self.reference)[1]

    @torch.no_grad()
    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The evaluator's mean nats per token [n] and mean features [n, D]."""
        means = [
            [each.double().mean(1) for each in self.evaluator.nll_and_features(part)]
            for part in x.split(self.batch)
        ]
        return tuple(torch.cat(each) for each in zip(*means, strict=True))

    def evaluated(self, samples: Tensor) -> list[Json]:
        """Mean over samples of nats or bits per token, and MAUVE."""
        if self.evaluator is None:
            return [None, None]
        nll, features = self.read(samples)
        near = mauve(features, self.reference_features, generator=seeded(4, self.device))
        unit = math.log(2) if self.novels.characters else 1.0
        return [interval(nll / unit), [100 * near.mean, 50 * (near.high - near.low)]]

    def own_bound(self, samples: Tensor) -> list[Json]:
        if self.model is None:
            return []
        nll = any_order_nll(
            self.model.reverse,
            samples,
            evaluations=16,
            common=True,
            batch=self.batch,
            generator=seeded(2, self.device),
        )
        return [interval(nll / samples.shape[1])]

    def measure(self, samples: Tensor) -> list[Json]:
        """A cell for each title of ``formats``."""
        texts = (self.novels.decode(sample) for sample in samples.tolist())
        words = [word for text in texts for word in whole_words(text)]
        pairs = partial(histogram_similarity, neighbours=2)
        return [
            *self.evaluated(samples),
            *self.own_bound(samples),
            unigram_entropy(samples),
            word_entropy(words) / math.log(2) if words else None,
            100 * known_share(words, self.known) if words else None,
            100 * distinct_share(samples, 2),
            100 * distinct_share(samples, 3),
            interval(100 * repeated_share(samples, 4)),
            hamming_distance(samples),
            squared_discrepancy(samples, self.reference, histogram_similarity),
            squared_discrepancy(samples, self.reference, pairs),
        ]

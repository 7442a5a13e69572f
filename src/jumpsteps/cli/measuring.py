"""What ``jumpsteps compare`` measures: the task's metric, one's own, or perplexity and what must
stand beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.cli.inputs import search_data, seeded
from jumpsteps.cli.options import CompareOptions
from jumpsteps.cli.your_own import own_object, raised
from jumpsteps.evaluation.compare import Measure
from jumpsteps.evaluation.mauve import FEWEST, mauve
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.evaluation.report import measures_table
from jumpsteps.evaluation.results import Row
from jumpsteps.evaluation.text_measures import (
    distinct_share,
    repeated_share,
    unigram_entropy,
    whole_words,
    word_entropy,
)
from jumpsteps.evaluation.two_sample import histogram_similarity, two_sample_distance
from jumpsteps.models import LoadedModel
from jumpsteps.models.built_in import TEXTS, checkpoint_folder
from jumpsteps.models.causal_lm import is_causal_lm, load_causal_lm
from jumpsteps.models.evaluator import load_evaluator
from jumpsteps.models.hub import MODEL_FILES, TOKENIZER_FILES, find_folder
from jumpsteps.models.networks.autoregressive import Autoregressive

__all__ = ["Metric", "measures_of_data", "metric_named", "print_measures", "reference_data"]

EVALUATOR = "text-evaluator"
"""The checkpoint that judges the built-in models of text."""

MAUVE = "mauve, %"

DISTANCE = "distance"
"""The metric of ``--metric`` that needs nothing but data."""

REFERENCE_SEED = 3
"""Added to the seed of the searches, for sequences that they did not see first."""

BATCH = 32
"""Sequences that an evaluator reads at a time."""

Measures = Mapping[str, tuple[float, ...]]

Reader = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Samples int64 [n, L] -> mean nats per token [n] and mean features [n, D], float64."""


@dataclass(frozen=True)
class Metric:
    """What is measured of samples int64 [n, L].

    Attributes:
        measure: to one value per sample, float [n], or an interval; lower is better.
        name: what that is.
        percent: whether it is a share, to be shown in per cent.
        beside: to further measures by name, each a value, a value and half its 95% interval, or
            nothing where it cannot be measured.
        unit: the smallest value of a sample that is not zero.
        of_all: whether it compares all samples with the data, and is not a mean over samples.
    """

    measure: Measure
    name: str
    percent: bool = False
    beside: Callable[[Tensor], Measures] | None = None
    unit: float = 1.0
    of_all: bool = False

    @property
    def facts(self) -> dict[str, str | bool]:
        """What a file of results says of it."""
        return {"metric": self.name, "percent": self.percent}


def metric_named(
    model: LoadedModel,
    name: str | None,
    evaluator: str | None,
    reference: Tensor | None,
    device: torch.device,
) -> Metric:
    """The metric that ``--metric`` or ``--evaluator`` names, or the model's own.

    Args:
        name: MODULE:NAME of a function, or "distance".
        evaluator: folder or hub id of an autoregressive model; by default the one that came with
            the package, for a built-in model of text.
        reference: held-out sequences int64 [m, L], from which the distance and MAUVE are measured,
            if there are any.

    Raises:
        ValueError: nothing to measure, or what is named cannot be loaded.
    """
    beside = text_measures(model)
    if name == DISTANCE and reference is not None:
        return distance(reference, beside)
    if name is not None:
        return Metric(own_function(name), name.rpartition(":")[2], beside=beside)
    if evaluator is None and model.name in TEXTS:
        evaluator = str(checkpoint_folder(EVALUATOR, "pass --evaluator FOLDER"))
    if evaluator is not None:
        files = [*MODEL_FILES, *TOKENIZER_FILES]
        folder = find_folder(evaluator, files, f"evaluator {evaluator!r}: ")
        return perplexity(reader(folder, model, device), beside, reference)
    task = model.task
    if task is None and reference is not None:
        return distance(reference, beside)
    if task is None:
        raise ValueError(
            f"no metric is known for {model.name!r}; pass --data or --text to measure the "
            "distance from these, one of your own with --metric MODULE:NAME, or for text "
            "--evaluator FOLDER"
        )
    return Metric(task.metric, task.metric_name, percent=True, unit=task.unit)


def reference_data(
    model: LoadedModel, options: CompareOptions, n: int, device: torch.device
) -> Tensor | None:
    """At most n sequences of ``--text`` or ``--data``, for a model of text or without a task; for
    ``--metric distance`` those of the task, too. None without them.
    """
    search = options.search
    named = search.text is not None or search.data is not None
    open_ended = model.text is not None or model.task is None
    if options.metric != DISTANCE and not (named and open_ended):
        return None
    generator = seeded(options.seed + REFERENCE_SEED, device)
    return search_data(model, replace(search, sequences=n), options.observed, generator)[0]


def measures_of_data(metric: Metric, reference: Tensor | None) -> dict[str, Measures]:
    """The metric of held-out sequences, unless it compares with them, and what stands beside it, by
    their name; empty without.
    """
    if metric.beside is None or reference is None or len(reference) < 2:
        return {}
    beside = dict(metric.beside(reference))
    beside.pop(MAUVE, None)
    values = None if metric.of_all else metric.measure(reference)
    if isinstance(values, Tensor):
        own = mean_interval(values)
        beside = {metric.name: (own.mean, own.high - own.mean), **beside}
    return {f"data ({len(reference)} sequences)": beside}


def print_measures(rows: Sequence[Row], metric: Metric, of_data: Mapping[str, Measures]) -> None:
    """Print a mean metric and all that stands beside it, the data in the first line."""
    if metric.beside is None:
        return
    measured = dict(of_data)
    for row in rows:
        own = row.metric
        parts = {} if metric.of_all else {metric.name: (own.mean, own.high - own.mean)}
        measured[f"{row.schedule}, NFE {row.nfe}"] = {**parts, **row.measures}
    print("\n" + measures_table(measured))
    print("entropy, distinct-n and MAUVE depend on the number of samples")
    if any(row.measures.get(MAUVE) == () for row in rows):
        print(
            f"MAUVE (-) says nothing of fewer than {FEWEST}: pass -n {FEWEST} or more, and data "
            "for as many sequences"
        )


def own_function(name: str) -> Callable[[Tensor], Tensor]:
    """A function of the user's, from int64 [n, L] to one number per sample.

    Raises:
        ValueError: as ``own_object``; when called, a function that raises, or another shape of its
            values.
    """
    if ":" not in name:
        raise ValueError(
            f"--metric takes {DISTANCE} or MODULE:NAME such as mine:score, got {name!r}"
        )
    found = own_object("--metric", name, "mine:score")

    def measure(samples: Tensor) -> Tensor:
        try:
            values = torch.as_tensor(found(samples))
        except Exception as error:
            raise ValueError(raised("--metric", name, error)) from None
        if values.shape != samples.shape[:1]:
            raise ValueError(
                f"--metric {name} gave values of shape {list(values.shape)} for {len(samples)} "
                "samples; return one number for each"
            )
        return values.to(torch.float64)

    return measure


def distance(reference: Tensor, beside: Callable[[Tensor], Measures] | None) -> Metric:
    """The energy distance of samples from data, of their histograms of pairs of neighbours.

    Raises:
        ValueError: fewer than three sequences of data.
    """
    if len(reference) < 3:
        raise ValueError(
            f"the distance from {len(reference)} sequences is not known; pass 3 at least, "
            "and -n 3 or more"
        )
    pairs = partial(histogram_similarity, neighbours=2)
    return Metric(
        lambda x: two_sample_distance(x, reference, pairs),
        "energy distance from data, of pairs of neighbours",
        percent=True,
        beside=beside,
        of_all=True,
    )


def text_measures(model: LoadedModel) -> Callable[[Tensor], Measures] | None:
    """Entropy, variety and repetition of samples; None for a model without text."""
    text = model.text
    if text is None:
        return None

    def measure(x: Tensor) -> Measures:
        repeated = mean_interval(100 * repeated_share(x, 4))
        words = [word for row in x.tolist() for word in whole_words(text.decode(row))]
        return {
            "unigram entropy, nats": (unigram_entropy(x),),
            "word entropy, nats": (word_entropy(words),) if words else (),
            "distinct-2, %": (100 * distinct_share(x, 2),),
            "distinct-3, %": (100 * distinct_share(x, 3),),
            "repeated-4, %": (repeated.mean, repeated.high - repeated.mean),
        }

    return measure


def reader(folder: Path, model: LoadedModel, device: torch.device) -> Reader:
    """The evaluator in a folder: one of this project's, or a causal language model such as GPT-2.

    Raises:
        ValueError: neither, or a causal language model for a model without text.
    """
    if is_causal_lm(folder):
        if model.text is None:
            raise ValueError(
                f"{folder} reads text, and {model.name!r} has no tokenizer; pass --tokenizer"
            )
        return load_causal_lm(folder, model.text.decode, device).read
    return partial(read, load_evaluator(folder, device))


def perplexity(
    read: Reader,
    beside: Callable[[Tensor], Measures] | None,
    reference: Tensor | None,
) -> Metric:
    """Nats per token under an evaluator; MAUVE joins the other measures if there is a reference,
    without a value where there are too few sequences for it.
    """
    read = lru_cache(maxsize=2)(read)  # Samples are read once for both; tensors hash by identity.
    features = None if reference is None else read(reference)[1]

    def measures(x: Tensor) -> Measures:
        found = dict(beside(x)) if beside is not None else {}
        if features is None:
            return found
        found[MAUVE] = ()
        if min(len(x), len(features)) >= FEWEST:
            generator = torch.Generator(x.device).manual_seed(0)
            near = mauve(read(x)[1], features, generator=generator)
            found[MAUVE] = (100 * near.mean, 50 * (near.high - near.low))
        return found

    return Metric(lambda x: read(x)[0], "nats per token under the evaluator", beside=measures)


@torch.no_grad()
def read(network: Autoregressive, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean nats per token [n] and mean features [n, D] of samples, float64."""
    means = [
        [each.double().mean(1) for each in network.nll_and_features(part)]
        for part in x.split(BATCH)
    ]
    nll, features = (torch.cat(each) for each in zip(*means, strict=True))
    return nll, features

"""Blocked Gibbs on text: a model of the novels beside held-out books, at equal model calls.

    python experiments/text_models.py english_novels.zip NOVELS.npz --prepare --symbols characters
    python experiments/corrector_text.py NOVELS.npz OUT.json --model FOLDER --evaluator FOLDER
        [--device cuda] [-n 256] [--others] [--plans TITLE ...]

The model is checkpoints/text-small if none is named (`--symbols bpe`). Searches see 64 sequences of
the validation books (seed 0). Measures of n samples (seed 1, the same for every plan):

* evaluator: nats per token (bits for characters) under the autoregressive model of --evaluator;
* nats: the model's own any-order bound per token (16 evaluations, sets common to all);
* entropy: of the tokens of all samples, nats;
* word entropy: of the words of all samples, bits; known: the share of words that the training books
  hold, per cent; both without the first and last word of a sample, which may be cut off;
* distinct-2, distinct-3: different pairs and triples of neighbours in all samples, per cent of all;
* repeated-4: fours of neighbours that occurred before in the same sample, per cent;
* Hamming: the mean share of positions at which two samples differ;
* tokens, pairs: the distance of the histograms of tokens, and of neighbouring pairs, of single
  samples from those of n sequences of the test books, times 1e4 (``histogram_similarity``, twice
  the value is an energy distance).

The first row has n other sequences of the test books. OUT.json is written after every plan.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import (
    Comparison,
    Plan,
    add_flags,
    golden_counts,
    interval,
    plans,
    seeded,
    squared_discrepancy,
)
from jumpsteps import load
from jumpsteps.evaluation.agreement import hamming_distance
from jumpsteps.evaluation.any_order import any_order_nll
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
from jumpsteps.models.evaluator import load_evaluator
from jumpsteps.models.networks.autoregressive import Autoregressive
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform
from novels import Novels
from results import Json

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "text-small"
BIT = torch.log(torch.tensor(2.0, dtype=torch.float64)).item()
UNIFORM = (16, 64, 256)


@dataclass(frozen=True)
class Judge:
    """What measures samples int64 [n, L].

    Attributes:
        evaluator: autoregressive model; None to leave its column empty.
        reference: sequences of the test books, int64 [n, L].
        known: the words of the training books.
    """

    model: LoadedModel
    evaluator: Autoregressive | None
    novels: Novels
    reference: Tensor
    known: frozenset[str]
    device: str
    batch: int

    @property
    def formats(self) -> dict[str, str]:
        """Title -> format of the column."""
        unit = "bits" if self.novels.characters else "nats"
        return {
            f"evaluator, {unit}": "{:.3f} ±{:.3f}",
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

    @torch.no_grad()
    def evaluated(self, samples: Tensor) -> Json:
        """Mean over samples of nats or bits per token, and half its interval."""
        if self.evaluator is None:
            return None
        parts = [self.evaluator.nll(part).double().mean(1) for part in samples.split(self.batch)]
        return interval(torch.cat(parts) / (BIT if self.novels.characters else 1))

    def measure(self, samples: Tensor) -> list[Json]:
        nll = any_order_nll(
            self.model.reverse,
            samples,
            evaluations=16,
            common=True,
            batch=self.batch,
            generator=seeded(2, self.device),
        )
        texts = (self.novels.decode(sample) for sample in samples.tolist())
        words = [word for text in texts for word in whole_words(text)]
        pairs = partial(histogram_similarity, neighbours=2)
        return [
            self.evaluated(samples),
            interval(nll / samples.shape[1]),
            unigram_entropy(samples),
            word_entropy(words) / BIT if words else None,
            100 * known_share(words, self.known) if words else None,
            100 * distinct_share(samples, 2),
            100 * distinct_share(samples, 3),
            interval(100 * repeated_share(samples, 4)),
            hamming_distance(samples),
            squared_discrepancy(samples, self.reference, histogram_similarity),
            squared_discrepancy(samples, self.reference, pairs),
        ]


def all_plans(counts: dict, sites: int, *, long: bool, others: bool) -> dict[str, Plan]:
    """The plans of every experiment, and Tweedie's sampler at uniform times."""
    uniform_times = {f"{nfe}, uniform times": (Tweedie(), uniform(nfe)) for nfe in UNIFORM}
    return uniform_times | plans(counts, sites, long=long, others=others)


def run() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=str(CHECKPOINT))
    parser.add_argument("--evaluator", type=Path)
    add_flags(parser, n=256, batch=128)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    model, novels = load(args.model, device=args.device), Novels(args.data)
    evaluator = None if args.evaluator is None else load_evaluator(args.evaluator, args.device)
    searched = novels.sequences("validation", model.length)
    searched = searched[: 8 * args.sequences : 8].to(args.device)
    test = novels.sequences("test", model.length)
    test = test[torch.randperm(len(test), generator=seeded(3, "cpu"))]
    if len(test) < 2 * args.n:
        raise SystemExit(f"{len(test)} test sequences are fewer than twice -n {args.n}")
    reference, others = test[: 2 * args.n].to(args.device).chunk(2)
    known = frozenset(novels.words())
    judge = Judge(model, evaluator, novels, reference, known, args.device, args.batch)
    comparison = Comparison(
        args.out,
        __file__,
        model,
        list(judge.formats),
        judge.measure,
        (args.n, model.length),
        args.batch,
        args.device,
        formats=judge.formats,
    )
    counts = golden_counts(model, searched, args.device)
    made = all_plans(counts, model.length, long=args.long, others=args.others)
    comparison.run(made, args.plans, ["real text", None, *judge.measure(others)])


if __name__ == "__main__":
    run()

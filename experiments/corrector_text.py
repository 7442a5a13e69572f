"""Blocked Gibbs on text: checkpoints/text-small beside held-out novels, at equal model calls.

    python experiments/corrector_text.py DATA OUT.json [--device cuda] [-n 256] [--others]

DATA is english_novels.zip (the card names it), or an .npz file with the arrays `validation` and
`test` of int64 [N, 512] that --tokens FILE.npz wrote, which needs no tokenizer. Searches see 64
sequences of the validation books (seed 0). Measures of n samples (seed 1, the same for every plan):

* nats: the model's own any-order bound per token (16 evaluations, sets common to all);
* entropy: of the tokens of all samples, nats;
* distinct-2, distinct-3: different pairs and triples of neighbours in all samples, per cent of all;
* repeated-4: fours of neighbours that occurred before in the same sample, per cent;
* Hamming: the mean share of positions at which two samples differ;
* tokens, pairs: the distance of the histograms of tokens, and of neighbouring pairs, of single
  samples from those of n sequences of the test books, times 1e4 (``histogram_similarity``, twice
  the value is an energy distance).

The row of data has n other sequences of the test books. No independent model judges the samples:
"nats" is what the model itself thinks of them, and only the distances compare them with data.
OUT.json is written after every plan.
"""

import argparse
import json
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corrector_plans import (
    Comparison,
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
from jumpsteps.evaluation.two_sample import histogram_similarity
from jumpsteps.models import LoadedModel
from results import Json

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "text-small"
SPLITS = ("validation", "test")
FORMATS = {
    "nats": "{:.3f} ±{:.3f}",
    "entropy": "{:.3f}",
    "distinct-2, %": "{:.1f}",
    "distinct-3, %": "{:.1f}",
    "Hamming": "{:.3f}",
}
TITLES = [
    "nats",
    "entropy",
    "distinct-2, %",
    "distinct-3, %",
    "repeated-4, %",
    "Hamming",
    "tokens",
    "pairs",
]


def read_tokens(path: Path, model: LoadedModel) -> dict[str, Tensor]:
    """Sequences of the validation and test books, int64 [N, L]."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {split: torch.from_numpy(file[split]) for split in SPLITS}
    if model.text is None:
        raise SystemExit("no tokenizer; pass the .npz file that --tokens wrote")
    books = json.loads((CHECKPOINT / "split.json").read_text(encoding="utf-8"))
    found = {}
    with zipfile.ZipFile(path) as file:
        for split in SPLITS:
            pieces = []
            for book in books[split]["books"]:
                lines = file.read(f"corpus/{book}.txt").decode("utf-8-sig").splitlines()
                # One line for each paragraph, as in training.
                content = "\n".join(line.strip() for line in lines if line.strip())
                tokens = torch.tensor(model.text.encode(content))
                pieces.append(tokens[: len(tokens) // model.length * model.length])
            found[split] = torch.cat(pieces).view(-1, model.length)
    return found


def distinct(x: Tensor, size: int) -> float:
    """Different runs of ``size`` neighbours in all of x [n, L], per cent of all runs."""
    runs = x.unfold(1, size, 1).reshape(-1, size)
    return 100 * len(torch.unique(runs, dim=0)) / len(runs)


def repeated(x: Tensor, size: int) -> Tensor:
    """Runs of ``size`` neighbours that occurred before in the same sequence, per cent, [n]."""
    runs = x.unfold(1, size, 1)
    shares = [100 * (1 - len(torch.unique(one, dim=0)) / len(one)) for one in runs]
    return torch.tensor(shares, dtype=torch.float64)


def entropy(x: Tensor) -> float:
    p = torch.bincount(x.flatten()).double() / x.numel()
    return -float(torch.xlogy(p, p).sum())


def measure(
    samples: Tensor, *, model: LoadedModel, reference: Tensor, device: str, batch: int
) -> list[Json]:
    nll = any_order_nll(
        model.reverse,
        samples,
        evaluations=16,
        common=True,
        batch=batch,
        generator=seeded(2, device),
    )
    pairs = partial(histogram_similarity, neighbours=2)
    return [
        interval(nll / samples.shape[1]),
        entropy(samples),
        distinct(samples, 2),
        distinct(samples, 3),
        interval(repeated(samples, 4)),
        hamming_distance(samples),
        squared_discrepancy(samples, reference, histogram_similarity),
        squared_discrepancy(samples, reference, pairs),
    ]


def run() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=Path, help="write the tokens of DATA there, and stop")
    add_flags(parser, n=256, batch=128)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    model = load(CHECKPOINT, device=args.device)
    data = read_tokens(args.data, model)
    if args.tokens is not None:
        arrays = {split: tokens.numpy() for split, tokens in data.items()}
        np.savez_compressed(args.tokens, **arrays)
        return
    searched = data["validation"][: 8 * args.sequences : 8].to(args.device)
    test = data["test"][torch.randperm(len(data["test"]), generator=seeded(3, "cpu"))]
    if len(test) < 2 * args.n:
        raise SystemExit(f"{len(test)} test sequences are fewer than twice -n {args.n}")
    reference, others = test[: 2 * args.n].to(args.device).chunk(2)
    measured = partial(
        measure, model=model, reference=reference, device=args.device, batch=args.batch
    )
    comparison = Comparison(
        args.out,
        __file__,
        model,
        TITLES,
        measured,
        (args.n, model.length),
        args.batch,
        args.device,
        formats=FORMATS,
    )
    counts = golden_counts(model, searched, args.device)
    made = plans(counts, model.length, long=args.long, others=args.others)
    comparison.run(made, args.plans, ["data", None, *measured(others)])


if __name__ == "__main__":
    run()

"""Blocked Gibbs on text: a model of the novels beside held-out books, at equal model calls.

    python experiments/text_models.py english_novels.zip NOVELS.npz --prepare --symbols characters
    python experiments/corrector_text.py NOVELS.npz OUT.json --model FOLDER --evaluator FOLDER
        [--device cuda] [-n 256] [--others] [--plans TITLE ...]

The model is checkpoints/text-small if none is named (`--symbols bpe`). Searches see 64 sequences of
the validation books (seed 0). Measures of n samples (seed 1, the same for every plan) are those of
`text_judge.py`, the model's own any-order bound (16 evaluations, sets common to all) among them.
The first row has n other sequences of the test books. OUT.json is written after every plan.
"""

import argparse
from pathlib import Path

import torch

from corrector_plans import Comparison, Plan, add_flags, golden_counts, plans, seeded
from jumpsteps import load
from jumpsteps.models.evaluator import load_evaluator
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform
from novels import Novels
from text_judge import Judge

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "text-small"
UNIFORM = (16, 64, 256)


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
    judge = Judge(evaluator, novels, reference, known, args.device, args.batch, model)
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

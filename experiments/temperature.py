"""Extrapolated posteriors against lower temperatures, at equal numbers of calls.

    python experiments/temperature.py OUT.json [-n 1024] [--nfe 4 8 16] [--text TOKENS.npz]

Samples: the exact model of CountDown, shortest path of times and of counts in spread order; the
violation rate, and the two-sample distance from data (x 1000), as in ``multistep.py``.

Few-step NLL: of data by the steps' own distributions, which for counts in a given order is that of
the samples. The extrapolated posterior gives some symbols no probability, so its NLL is infinite;
here it keeps a share of the posterior at least, p' = max((1 + c) p_k - c p_{k-1}, share * p_k),
normalised. Nats per site more than by the posterior itself, with 95% intervals over sequences:
CountDown's exact model in spread order on its own data, and with ``--text`` (``tokens`` int64
[n, 512] of held-out books) text-small with the schedules that it comes with.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from corrector_plans import command_line
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.denoiser.temperature import tempered
from jumpsteps.evaluation.metrics import mean_interval
from jumpsteps.evaluation.two_sample import two_sample_distance
from jumpsteps.models.load import load
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import sample_batches
from jumpsteps.sampling.multistep import MultistepKGillespie, MultistepTweedie
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.conversion import time_of_masked
from jumpsteps.schedules.schedule import CountSchedule, Schedule
from jumpsteps.tasks import countdown
from multistep import COMPARED, SCHEDULES, half_of, schedules_of
from results import Json, Table, device_name, table, write_results

TEMPERATURES, SEQUENCES = (0.95, 0.9, 0.8, 0.7), {"countdown": 256, "text": 32}
Kept = Callable[[Tensor, Tensor, float], Tensor]
"""p_k and p_{k-1} [K, V], and c -> a distribution [K, V], unnormalised."""


def floored(share: float) -> Kept:
    return lambda now, last, c: torch.maximum(now + c * (now - last), share * now)


def cooled(temperature: float) -> Kept:
    return lambda now, last, c: (now.log() / temperature).softmax(-1)


VARIANTS: dict[str, Kept] = {
    "posterior": lambda now, last, c: now,
    **{f"extrapolated, {share} of it at least": floored(share) for share in (0.5, 0.1, 0.01)},
    **{f"temperature {tau}": cooled(tau) for tau in (0.975, 0.95, 0.9)},
}


def few_step_nll(
    reverse: ReverseProcess, data: Tensor, schedule: CountSchedule, generator: torch.Generator
) -> dict[str, Tensor]:
    """Of each variant, nats per site of each sequence, float64 [B]."""
    assert isinstance(reverse.forward, Absorbing)
    sites, known, last = data.shape[1], 0, None
    found = {name: torch.zeros(len(data), dtype=torch.float64) for name in VARIANTS}
    free = torch.ones_like(data, dtype=torch.bool)
    ranks = schedule.order.free_ranks(free, generator=generator)
    for count in schedule.counts:
        masked = ranks >= known
        x = data.masked_fill(masked, reverse.forward.mask_id)
        t = time_of_masked(reverse.forward, sites - known, sites)
        evaluation = reverse.evaluate(x, t, SiteMask(masked))
        where = SiteMask(masked & (ranks < known + count))

        def posterior(kept, x=x, t=t, where=where):
            rows = kept.rows[where.select(kept.row)]
            output = kept.read(rows, where.select(x))
            return reverse.leave_one_out_from(output, x, t, where).double()

        now = posterior(evaluation)
        before = now if last is None else posterior(last[0], t=last[1])
        c = 0.0 if last is None else (count - 1) / (2 * last[2])
        token = where.select(data)[:, None]
        for name, variant in VARIANTS.items():
            probs = variant(now, before, c)
            nll = probs.sum(-1).log() - probs.gather(1, token)[:, 0].log()
            found[name].index_add_(0, where.rows, nll / sites)
        last, known = (evaluation, t, count), known + count
    return found


@torch.no_grad()
def nll_table(
    reverse: ReverseProcess, data: Tensor, schedules: dict[int, Schedule], batch: int
) -> Table:
    """Rows of variants, differences from the posterior in nats per site."""
    columns: dict[int, dict[str, list[float]]] = {}
    for nfe, schedule in schedules.items():
        assert isinstance(schedule, CountSchedule)
        generator = torch.Generator().manual_seed(7)
        parts = [few_step_nll(reverse, x, schedule, generator) for x in data.split(batch)]
        each = {name: torch.cat([part[name] for part in parts]) for name in VARIANTS}
        plain = each.pop("posterior")
        columns[nfe] = {"posterior": half_of(mean_interval(plain), 1)}
        columns[nfe] |= {k: half_of(mean_interval(v - plain), 1) for k, v in each.items()}
        print(nfe, columns[nfe], flush=True)
    labels = {"posterior": "posterior, NLL itself"}
    rows: list[Json] = [
        [labels.get(name, name), *(columns[n][name] for n in columns)] for name in VARIANTS
    ]
    first, *others = columns
    return table(["", f"NFE {first}", *map(str, others)], rows, "{:+.4f} ±{:.4f}")


def samples_table(
    reverse: ReverseProcess, data: Tensor, schedules: dict[str, dict[int, Schedule]], n: int
) -> dict[str, Table]:
    """Violations in per cent and distances, by schedule and sampler or temperature."""
    rates: list[Json] = []
    distances: list[Json] = []
    for name, by_nfe in schedules.items():
        pair = (KGillespie(), MultistepKGillespie())
        plain, multi = pair if name == SCHEDULES[2] else (Tweedie(), MultistepTweedie())
        kinds: list[tuple[Sampler, float]] = [(plain, 1.0), (multi, 1.0)]
        for sampler, tau in kinds + [(plain, tau) for tau in TEMPERATURES]:
            label = sampler.name if tau == 1 else f"{sampler.name}, temperature {tau}"
            rate, distance = [], []
            for nfe, schedule in by_nfe.items():
                made, used = sample_batches(
                    tempered(reverse, tau),
                    sampler,
                    schedule,
                    (n, countdown.LENGTH),
                    generator=SampleGenerators(1, range(n)),
                    batch=64,
                )
                assert used == nfe
                rate.append(half_of(mean_interval(countdown.violations(made)), 100))
                apart = two_sample_distance(made[:COMPARED], data, countdown.similarity)
                distance.append(half_of(apart, 1000))
            rates.append([name, label, *rate])
            distances.append([name, label, *distance])
            print(rates[-1], distances[-1][2:], flush=True)
    first, *others = next(iter(schedules.values()))
    head = ["schedule", "sampler", f"NFE {first}", *map(str, others)]
    return {"violations": table(head, rates), "distances": table(head, distances)}


def run() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("-n", type=int, default=1024, help="samples")
    parser.add_argument("--nfe", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--text", type=Path)
    args = parser.parse_args()
    reverse = load("countdown-exact").reverse
    seeded, many = torch.Generator().manual_seed(9), max(COMPARED, SEQUENCES["countdown"])
    data = countdown.sample_data(many, generator=seeded, smoothing=1e-3)
    found = schedules_of(reverse, args.nfe, torch.device("cpu"))
    chosen = {k: {n: found[k][n] for n in args.nfe} for k in SCHEDULES[1:]}
    of_nll = data[: SEQUENCES["countdown"]]
    tables = {"nll-countdown": nll_table(reverse, of_nll, chosen[SCHEDULES[2]], 64)}
    if args.text is not None:
        model = load("text-small")
        tokens = torch.from_numpy(np.load(args.text)["tokens"][: SEQUENCES["text"]]).long()
        own = {n: model.schedules[n] for n in (8, 16)}
        tables["nll-text"] = nll_table(model.reverse, tokens, own, 4)
    tables |= samples_table(reverse, data[:COMPARED], chosen, args.n)
    write_results(
        args.out,
        __file__,
        tables,
        command=command_line(),
        device=device_name("cpu"),
        samples=args.n,
        sequences=SEQUENCES,
        search_seed=0,
        sampling_seed=1,
    )


if __name__ == "__main__":
    run()

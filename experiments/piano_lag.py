"""Why tau-leaping fails on the piano: the noise in its states, compared with that of their times.

    python experiments/piano_lag.py MODEL DATA [--device cuda] [--nfe 8]

A piano model of the uniform kernel continues the first two bars of the test songs, with tau-leaping
and with Tweedie's sampler, along equal times and those of JYS. A sixteenth looks like noise if the
others make its symbol less likely than 1/129. Columns, for each step:

* jumps: expected jumps at a sixteenth; several: the share of sixteenths with several jumps, which
  tau-leaping rejects;
* by time: the probability that noise has hit a sixteenth by the time after the step, on which the
  model is conditioned;
* true noise, noise: the share of sixteenths that look like noise after the step, on forward paths
  of the songs and in the run;
* excess: what a step of tau-leaping costs beyond one of Tweedie's, on these forward paths, in nats
  per song: E sum_l log q(x_s^l | x_t) / q_tau(x_s^l | x_t). Both distributions of a sixteenth are
  exact, with rejected jumps.

Ten minutes on two cores.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps import load, optimize_schedule
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.schedule import Step, TimeSchedule
from jumpsteps.search.jys import JYS
from jumpsteps.tasks import piano
from jumpsteps.tasks.music.dataset import read_songs

SEED = 1
COLUMNS = ("jumps", "several", "by time", "true noise", "noise", "excess")


def looks_like_noise(reverse: ReverseProcess, x: Tensor, t: float) -> float:
    own = reverse.leave_one_out(x, t).gather(-1, x[..., None])
    return float((own[:, piano.GIVEN :] < 1 / piano.SYMBOLS).double().mean())


def excess(reverse: ReverseProcess, x: Tensor, later: Tensor, t: float, s: float) -> float:
    """E log q(later | x) / q_tau(later | x) over the free sites, nats per song.

    q is the distribution of Tweedie's step, q_tau that of tau-leaping.
    """
    forward, w, y = reverse.forward, reverse.leave_one_out(x, t).double(), later[..., None]
    probs = forward.bridge(w, x, t, s)
    mean = (t - s) * forward.reverse_rates(w, x, t)
    none_or_several = 1 - mean.sum(-1) * torch.exp(-mean.sum(-1))
    step = torch.where(
        later == x, none_or_several, mean.gather(-1, y)[..., 0] * torch.exp(-mean.sum(-1))
    )
    behind = (probs.gather(-1, y)[..., 0] / probs.sum(-1)).log() - step.log()
    return float(behind[:, piano.GIVEN :].sum(-1).mean())


def follow(
    reverse: ReverseProcess, songs: Tensor, sampler: Sampler, schedule: TimeSchedule
) -> None:
    """Print a line for each step but the last."""
    generator = torch.Generator(songs.device).manual_seed(SEED)
    given = piano.given_bars(songs).mask
    path = reverse.forward.sample_path(
        songs, generator=torch.Generator(songs.device).manual_seed(SEED + 1)
    )
    noise = reverse.forward.sample_prior(
        tuple(songs.shape), generator=generator, device=songs.device
    )
    x = torch.where(given, songs, noise)
    true = torch.where(given, songs, path(1.0))
    for t, s in pairwise(schedule.times[:-1]):
        before, true = true, torch.where(given, songs, path(s))
        jumps = (t - s) * reverse.rates(x, t).sum(-1)[:, piano.GIVEN :]
        several = 1 - torch.exp(-jumps) * (1 + jumps)
        x = torch.where(
            given, songs, sampler.step(reverse, x, Step(t, s), None, generator=generator)[0]
        )
        numbers = (
            float(jumps.mean()),
            float(several.mean()),
            1 - float(reverse.forward.noise.alpha(s)),
            looks_like_noise(reverse, true, s),
            looks_like_noise(reverse, x, s),
            excess(reverse, before, true, t, s) if isinstance(sampler, TauLeaping) else 0.0,
        )
        print(f"{t:8.3f} -> {s:.3f}" + "".join(f"{value:12.3f}" for value in numbers), flush=True)


@torch.no_grad()
def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--nfe", type=int, default=8)
    args = parser.parse_args()
    device, data = torch.device(args.device), read_songs(args.data)
    reverse, songs = load(args.model, device=device).reverse, data.songs().to(device)
    generator = torch.Generator(device).manual_seed(0)
    seen, mask = data.sample_data(64, generator).to(device), piano.given_bars(songs).mask[0]
    options = {"generator": generator, "method": JYS(), "given_mask": mask}
    jys = optimize_schedule(reverse, seen, [args.nfe], **options)[args.nfe]
    for sampler in (TauLeaping(), Tweedie()):
        for name, schedule in (("uniform", uniform(args.nfe)), ("jys", jys)):
            print(f"{sampler.name}, {name}\n{'step':>14s}{''.join(f'{c:>12s}' for c in COLUMNS)}")
            follow(reverse, songs, sampler, schedule)


if __name__ == "__main__":
    run()

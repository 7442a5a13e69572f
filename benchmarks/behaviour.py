"""A record of what the library computes, to the bit, to show that a change of code alters nothing.

    python benchmarks/behaviour.py OUT.json                       # write a record
    python benchmarks/behaviour.py OUT.json --against OLD.json    # and compare it with an older one
    python benchmarks/behaviour.py OUT.json --only search         # groups with this in their names

Every group is a small function below that makes short runs from fixed seeds: samples, searches,
tables of costs, explanations, training steps, metrics, files. OUT.json has, for each of their
results, a SHA-256 of all its bits and a short text to read. With ``--against`` every result that
differs, is missing or is new is printed, and the exit status is 1 if there is any, or if a group
failed.

The library is the one that Python imports: for two versions, run the same script twice with another
PYTHONPATH. Both records must be made on one machine with the same torch and numpy, because kinds of
CPU differ in the last bits; a record says what it was made with. When names move or change in the
library, the block of imports follows, and calls whose arguments changed; results keep their names.
About 40 seconds on one core. MIDI files need mido; without it they are left out.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = (
    "1"  # Before numpy is imported.
)

import argparse
import contextlib
import hashlib
import io
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jumpsteps import (
    JYS,
    Absorbing,
    Ancestral,
    Blocks,
    ClosedForm,
    Constant,
    Cosine,
    CountKlub,
    CountSchedule,
    Dilated,
    EntropyBounded,
    Enumerable,
    ErrorCorrection,
    Euler,
    Exponential,
    FirstHitting,
    Fixed,
    ForwardProcess,
    Gaussian,
    Geometric,
    Gillespie,
    Given,
    Golden,
    KGillespie,
    Klub,
    LearnedOrder,
    LoadedModel,
    LogLinear,
    MarkovChain,
    MaskGIT,
    Measure,
    Method,
    Mixture,
    NoiseSchedule,
    Paths,
    PosteriorReverse,
    PredictorCorrector,
    Provenance,
    Random,
    RateMatrix,
    ReMDM,
    RevealOrder,
    ReverseProcess,
    Sampler,
    ScheduleSet,
    Sequential,
    ShortestPath,
    Spread,
    TauLeaping,
    ThetaRK2,
    ThetaTrapezoidal,
    TimeSchedule,
    Tweedie,
    Uniform,
    cosine,
    cosine_counts,
    count_costs,
    equal_entropy,
    equal_error,
    error_curve,
    explain,
    information_profile,
    learn_order,
    load,
    load_schedules,
    mean_interval,
    optimize_schedule,
    path_costs,
    save_schedules,
    simulate,
    uniform,
    uniform_counts,
)
from jumpsteps.cli.main import main as command_line
from jumpsteps.core.draws import categorical, exponential, gumbel, poisson
from jumpsteps.core.information import kl_divergence
from jumpsteps.evaluation.metrics import (
    bootstrap_interval,
    energy_distance,
    group_means,
    outlier_share,
)
from jumpsteps.evaluation.metrics import hellinger_distance as hellinger
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.models.networks.transformer import TransformerConfig
from jumpsteps.models.networks.unet import UNetConfig
from jumpsteps.schedules.schedule import Schedule, Step
from jumpsteps.search.learned_order import dependence
from jumpsteps.tasks.countdown import sample_data as countdown_data
from jumpsteps.tasks.countdown import violations
from jumpsteps.tasks.music.dataset import read_midi, read_songs
from jumpsteps.tasks.music.given_melody import read_melody
from jumpsteps.tasks.music.melody import REST
from jumpsteps.tasks.music.midi import read_steps, write_steps
from jumpsteps.tasks.music.synth import render
from jumpsteps.tasks.piano import (
    ngram_overlap,
    note_distance,
    note_outliers,
    notes_in_key,
)
from jumpsteps.training.loop import train
from jumpsteps.training.losses import MaskedCrossEntropy, ScoreEntropy
from jumpsteps.training.recipes import RECIPES, train_recipe

# What is written down.

Results = Iterator[tuple[str, object]]
"""(name, value) of each result of a group."""

GROUPS: dict[str, Callable[[], Results]] = {}


def group(name: str) -> Callable[[Callable[[], Results]], Callable[[], Results]]:
    """Register a function as the group of this name."""

    def register(function: Callable[[], Results]) -> Callable[[], Results]:
        GROUPS[name] = function
        return function

    return register


def bits(value: object) -> bytes:
    """All of a value: the bytes of arrays, the exact digits of numbers."""
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous()
        head = f"{str(array.dtype).removeprefix('torch.')}{list(array.shape)}"
        return head.encode() + array.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}".encode() + np.ascontiguousarray(value).tobytes()
    if isinstance(value, Mapping):
        return b"{" + b"".join(bits(str(key)) + bits(value[key]) for key in value) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b"".join(bits(each) for each in value) + b"]"
    if isinstance(value, bytes):
        return b"b" + str(len(value)).encode() + b":" + value
    if isinstance(value, str):
        return b"s" + bits(value.encode())
    if isinstance(value, bool | None):
        return repr(value).encode()
    if isinstance(value, int | np.integer):
        return f"int {int(value)};".encode()
    if isinstance(value, float | np.floating):
        return f"float {float(value).hex()};".encode()
    raise TypeError(f"no bits for {type(value).__name__}")


def short(value: object) -> str:
    """A value to read: of arrays the shape, the first ten numbers and the mean."""
    if isinstance(value, Tensor):
        return short((value.detach().double() if value.is_floating_point() else value).numpy())
    if isinstance(value, np.ndarray):
        first = short(value.reshape(-1)[:10].tolist())
        finite = value[np.isfinite(value)] if value.dtype.kind == "f" else value[:0]
        with np.errstate(over="ignore"):
            mean = f" mean {finite.astype(np.float64).mean():.9g}" if finite.size > 1 else ""
        return f"{list(value.shape)} {first}{mean}"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {short(value[key])}" for key in value)
    if isinstance(value, list | tuple):
        more = " ..." if len(value) > 10 else ""
        return " ".join(brief(each) for each in value[:10]) + more
    return brief(value, digits=17)


def brief(value: object, digits: int = 6) -> str:
    """One item of a list, or a single value."""
    if isinstance(value, float):
        return repr(float(value)) if digits > 6 else f"{value:.{digits}f}"
    if isinstance(value, list | tuple | Mapping | np.ndarray | Tensor):
        return f"({short(value)})"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# What the groups share.

CPU = torch.device("cpu")
TIMES = TimeSchedule([1.0, 0.7, 0.45, 0.2, 0.0])
KERNELS = ("absorbing", "uniform", "gaussian", "rate-matrix")
OTHERS = KERNELS[1:]
TINY: dict[str, Any] = {"hidden_size": 16, "n_blocks": 1, "n_heads": 2, "cond_dim": 8}
"""Sizes of a diffusion transformer."""

OF_TIMES: dict[str, tuple[Sampler, Sequence[str]]] = {
    "tweedie": (Tweedie(), KERNELS),
    "euler": (Euler(), KERNELS),
    "tau-leaping": (TauLeaping(), KERNELS),
    "tau-leaping-ordinal": (TauLeaping(ordinal=True), OTHERS),
    "theta-trapezoidal": (ThetaTrapezoidal(), KERNELS),
    "theta-trapezoidal-0.3": (ThetaTrapezoidal(0.3), KERNELS),
    "theta-rk2": (ThetaRK2(), KERNELS),
    "theta-rk2-0.4": (ThetaRK2(0.4), KERNELS),
    "tweedie-corrected": (PredictorCorrector(Tweedie()), KERNELS),
    "euler-corrected": (PredictorCorrector(Euler(), 2, 0.3), KERNELS),
    "ancestral": (Ancestral(), KERNELS[:1]),
    "remdm": (ReMDM(0.3), KERNELS[:1]),
}
"""Samplers that follow times, and the kernels that they serve."""
BY_COUNT: dict[str, Sampler] = {"k-gillespie": KGillespie(), "maskgit": MaskGIT()}
FREE: dict[str, tuple[Sampler, Sequence[str]]] = {
    "first-hitting": (FirstHitting(), KERNELS[:1]),
    "entropy-bounded": (EntropyBounded(), KERNELS[:1]),
    "entropy-bounded-1": (EntropyBounded(1.0), KERNELS[:1]),
    "gillespie": (Gillespie(0.01), KERNELS),
}
"""Samplers that choose their own steps."""

ORDERS: dict[str, RevealOrder] = {
    "random": Random(),
    "spread": Spread(),
    "golden": Golden(),
    "dilated": Dilated(),
    "sequential": Sequential(),
    "blocks": Blocks(),
}
ALL_JYS: dict[str, Method] = {
    "jys": JYS(),
    "jys-full": JYS(full=True),
    "jys-context": JYS(hold_time=False),
    "jys-full-context": JYS(full=True, hold_time=False),
}
CLOSED: dict[str, Method] = {
    "equal-error": ClosedForm("equal-error", equal_error),
    "equal-entropy": ClosedForm("equal-entropy", equal_entropy),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def model(name: str) -> LoadedModel:
    return load(name)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, float64."""
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


@cache
def one_way() -> Enumerable:
    """A table of 3 symbols at 4 sites; its kernel runs around a circle."""
    rates = torch.tensor([[-1.2, 1.0, 0.2], [0.2, -1.7, 1.5], [2.0, 0.2, -2.2]])
    forward = RateMatrix(matrix=rates.double(), noise=Exponential(10.0, 0.3))
    return Enumerable.random(forward, symbols=3, length=4, seed=0)


def toy(kernel: str) -> ReverseProcess:
    """A model of 4 sites whose distributions are known, of each kernel."""
    if kernel == "rate-matrix":
        return PosteriorReverse(one_way().forward, one_way())
    return model(f"toy-{kernel}").reverse


def toy_data(kernel: str, n: int) -> Tensor:
    if kernel == "rate-matrix":
        return one_way().sample_data(n, generator=seeded(3))
    return data_of(f"toy-{kernel}", n)


def data_of(name: str, n: int) -> Tensor:
    """Sequences of the model's own task."""
    task = model(name).task
    assert task is not None
    return task.sample_data(n, seeded(3))


def melodies(n: int, seed: int = 4) -> Tensor:
    """Random walks on seven pitches, 16 bars of quarter notes, the fifth note of each a rest."""
    steps = torch.randint(-1, 2, (n, 64), generator=seeded(seed)).cumsum(-1)
    notes = 60 + steps % 7
    notes[:, 4] = REST
    return notes.repeat_interleave(4, -1)


def first_sites(length: int, given: int) -> Tensor:
    return torch.arange(length) < given


def run(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule | None,
    shape: tuple[int, int],
    given: Given | None = None,
) -> dict[str, object]:
    """A run, and the number that its generator gives next."""
    generator = seeded(1)
    made = simulate(reverse, sampler, schedule, shape, generator=generator, given=given)
    following = int(torch.randint(10**6, (), generator=generator))
    values = {"moved": made.moved, "clipped": made.clipped}
    return {"calls": made.nfe, "next": following, "samples": made.samples} | values


def search(
    reverse: ReverseProcess,
    data: Tensor,
    nfe: Sequence[int],
    method: Method,
    sampler: Sampler | None = None,
    given_mask: Tensor | None = None,
    tolerance: float | None = None,
) -> dict[str, object]:
    """Schedules and what their provenance says of them, and the generator's next number."""
    generator = seeded(2)
    found = optimize_schedule(
        reverse,
        data,
        nfe,
        tolerance=tolerance,
        generator=generator,
        method=method,
        sampler=sampler,
        given_mask=given_mask,
    )
    following = int(torch.randint(10**6, (), generator=generator))
    return {f"nfe {n}": written(found[n]) for n in found} | {"next": following}


def written(schedule: Schedule) -> dict[str, object]:
    """A schedule, its predicted cost and the model calls that its search made."""
    known = schedule.provenance
    return {
        "steps": schedule.times if isinstance(schedule, TimeSchedule) else schedule.counts,
        "calls": known.model_calls,
        "cost": known.error[0],
        "stderr": known.error[1],
    }


def paths_of(reverse: ReverseProcess, data: Tensor, given_mask: Tensor | None = None) -> Paths:
    return Paths.draw(reverse.forward, data, generator=seeded(5), given_mask=given_mask)


# The parts that everything is made of.


@group("noise")
def noise() -> Results:
    every: dict[str, NoiseSchedule] = {
        "log-linear": LogLinear(),
        "cosine": Cosine(),
        "geometric": Geometric(),
        "constant": Constant(3.87),
        "exponential": Exponential(100.0, 0.25),
    }
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    for name, one in every.items():
        total = one.total(t)
        values = {"rate": one.rate(t), "total": total, "alpha": one.alpha(t)}
        back = {"inverse": one.inverse(total), "of alpha": one.time_of_alpha(one.alpha(t))}
        yield name, values | back


@group("draws")
def draws() -> Results:
    generator = seeded(0)
    weights = numbers(50, 7).exp()
    yield "categorical", categorical(weights, generator=generator)
    many = numbers(20, 5000).exp().float()
    yield "categorical of many", categorical(many, generator=generator)
    yield "poisson", poisson(3 * weights, generator=generator)
    yield "exponential", exponential(weights, generator=generator)
    yield "gumbel", gumbel((50,), generator=generator, device=CPU)


def forward_of(kernel: str) -> ForwardProcess:
    forwards: dict[str, ForwardProcess] = {
        "absorbing": Absorbing(vocab_size=6, noise=LogLinear()),
        "uniform": Uniform(vocab_size=6, noise=Constant(3.0)),
        "gaussian": Gaussian(vocab_size=6, noise=Exponential(100.0, 0.05)),
        "rate-matrix": one_way().forward,
    }
    return forwards[kernel]


@group("kernels")
def kernels() -> Results:
    for kernel in KERNELS:
        forward = forward_of(kernel)
        v = forward.vocab_size
        symbols = v - (kernel == "absorbing")
        x0 = torch.randint(symbols, (5, 8), generator=seeded(0))
        x = forward.sample_transition(x0, 0.0, 0.6, generator=seeded(1))
        w = numbers(5, 8, v).softmax(-1)
        each = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)[:, None]
        path = forward.sample_path(x0, generator=seeded(2))
        yield f"{kernel}/transition", forward.transition(0.1, 0.6)
        yield f"{kernel}/push", {"one time": forward.push(w, 0.6), "times": forward.push(w, each)}
        yield f"{kernel}/likelihood", [forward.likelihood(x, 0.6), forward.likelihood(x, each)]
        yield f"{kernel}/leave out", forward.leave_out(w.log(), x, 0.6)
        yield f"{kernel}/bridge", forward.bridge(w, x, 0.6, 0.2)
        yield f"{kernel}/reverse rates", forward.reverse_rates(w, x, 0.6)
        yield f"{kernel}/rates", [forward.rates_into(x), forward.rates_from(x)]
        yield f"{kernel}/transition drawn", x
        yield f"{kernel}/path drawn", [path(t) for t in (0.0, 0.2, 0.6, 1.0)] + [path(each)]
        yield f"{kernel}/prior drawn", forward.sample_prior((5, 8), generator=seeded(3), device=CPU)
        total = forward.noise.total(each)
        exit_rate = forward.exit_rate_bound
        bound = exit_rate.integral(total)
        yield f"{kernel}/exit bound", [exit_rate.rate(total), bound, exit_rate.inverse(bound)]
        speeds = [float(forward.spectral_gap), float(forward.max_exit_rate)]
        yield f"{kernel}/gap and fastest", speeds
    for kernel in ("absorbing", "uniform"):
        probs = numbers(5, 8, forward_of(kernel).vocab_size).softmax(-1)
        yield f"{kernel}/pull", forward_of(kernel).pull(probs.log(), 0.4)


@group("orders")
def orders() -> Results:
    more: dict[str, RevealOrder] = {
        "spread-grid": Spread((4, 10)),
        "blocks-spread": Blocks(8, Spread()),
        "fixed": Fixed(tuple(range(39, -1, -1)), True),
        "mixture": Mixture((Spread(), Golden()), (1.0, 2.0)),
    }
    for name, order in (ORDERS | more).items():
        yield name, order.ranks(6, 40, generator=seeded(0))


@group("paths")
def paths() -> Results:
    for name in ("countdown-exact", "countdown-exact-uniform", "countdown-exact-gaussian"):
        path = paths_of(model(name).reverse, data_of(name, 3), first_sites(256, 40))
        yield name, [path(t) for t in (0.05, 0.3, 0.8)]
    path = paths_of(model("countdown-exact").reverse, data_of("countdown-exact", 3))
    yield "masked", [path.with_masked(n) for n in (1, 100, 256)]
    yield "ranks", path.free_ranks(Spread(), generator=seeded(0))


@group("exact distributions")
def exact_distributions() -> Results:
    for kernel in KERNELS:
        truth = one_way() if kernel == "rate-matrix" else toy(kernel).model
        assert isinstance(truth, Enumerable)
        t, s = 0.7, 0.3
        yield f"{kernel}/marginal", truth.marginal(t)
        yield f"{kernel}/reversal", truth.reverse_rates(t)
        yield f"{kernel}/tweedie", truth.tweedie_transition(t, s)
        yield f"{kernel}/euler", truth.euler_transition(t, s)
        yield f"{kernel}/compounding error", float(truth.compounding_error(t, s))
        probs = truth.run_distribution(truth.tweedie_transition, TIMES, truth.marginal(1.0))
        yield (
            f"{kernel}/divergence of a run",
            float(kl_divergence(truth.data_distribution(), probs)),
        )


@group("transition matrices")
def matrices_of_samplers() -> Results:
    for kernel in KERNELS:
        truth = Enumerable.random(forward_of(kernel), symbols=symbols_of(kernel), length=2, seed=1)
        t, s = 0.7, 0.3
        samplers = [TauLeaping(), TauLeaping(ordinal=True), ThetaTrapezoidal(0.4), ThetaRK2(0.4)]
        for sampler in samplers:
            if kernel == "absorbing" and sampler == TauLeaping(ordinal=True):
                continue
            yield f"{kernel}/{sampler.name}", matrix_of(truth, sampler, Step(t, s))
    absorbing = Enumerable.random(forward_of("absorbing"), symbols=5, length=2, seed=1)
    yield "absorbing/remdm", matrix_of(absorbing, ReMDM(cap=0.1), Step(0.7, 0.3))


def matrix_of(truth: Enumerable, sampler: Sampler, step: Step) -> Tensor:
    reverse = PosteriorReverse(truth.forward, truth)
    return sampler.transition_matrix(reverse, truth.states, step)


def symbols_of(kernel: str) -> int:
    return forward_of(kernel).vocab_size - (kernel == "absorbing")


# Models.


@group("models")
def models() -> Results:
    names = ["countdown", "countdown-exact", "countdown-exact-uniform", "countdown-exact-gaussian"]
    names += ["piano-uniform", "piano-absorbing", "toy-absorbing", "toy-uniform", "toy-gaussian"]
    for name in names:
        yield name, {"length": model(name).length, "digest": model(name).digest}


@group("reverse processes")
def reverse_processes() -> Results:
    """What models say of noised data, at all sites and at some."""
    for name in ("countdown", "countdown-exact-uniform", "countdown-exact-gaussian"):
        reverse, data = model(name).reverse, data_of(name, 2)
        yield from asked(name, reverse, data)
    for name in ("piano-uniform", "piano-absorbing"):
        yield from asked(name, model(name).reverse, melodies(2))
    for output, kernel in (
        ("log-score", "absorbing"),
        ("log-score", "uniform"),
        ("leave-one-out", "uniform"),
        ("leave-one-out", "gaussian"),
        ("posterior", "gaussian"),
    ):
        config = DiTConfig(vocab_size=6, **TINY)
        reverse = fresh(config, forward_of(kernel), output)
        data = torch.randint(5, (3, 12), generator=seeded(0))
        yield from asked(f"{output}-{kernel}", reverse, data)


@torch.no_grad()
def asked(name: str, reverse: ReverseProcess, data: Tensor) -> Results:
    x = paths_of(reverse, data)(0.6)
    where = reverse.forward.movable(x)
    times = torch.linspace(0.3, 0.8, len(x), dtype=torch.float64)
    yield f"{name}/posterior", reverse.posterior(x, 0.6)
    yield f"{name}/leave one out", reverse.leave_one_out(x, 0.6, where=where)
    yield f"{name}/leave one out, times", reverse.leave_one_out(x, times, where=where)
    yield f"{name}/log-score", reverse.log_score(x, 0.6, where=where)
    yield f"{name}/rates", reverse.rates(x, times, where=where)


def fresh(
    config: DiTConfig | TransformerConfig | UNetConfig, forward: ForwardProcess, output: str
) -> ReverseProcess:
    """A network with normal weights."""
    network, reverse = build(config, forward, output)
    generator = seeded(7)
    for _, parameter in sorted(network.named_parameters()):
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    network.eval()
    return reverse


@group("networks")
@torch.no_grad()
def networks() -> Results:
    """The three kinds of networks, at all sites and at some."""
    sizes: dict[str, Any] = {"n_heads": 2, "hidden_size": 16}
    configs: dict[str, DiTConfig | TransformerConfig | UNetConfig] = {
        "dit": DiTConfig(vocab_size=6, n_blocks=2, cond_dim=8, length=24, **sizes),
        "transformer": TransformerConfig(
            vocab_size=6, length=24, feedforward_size=32, n_layers=2, time_dim=8, **sizes
        ),
        "unet": UNetConfig(
            vocab_size=6, shape=(1, 4, 6), channels=8, multipliers=(1, 2), n_blocks=1, time_dim=8
        ),
    }
    x = torch.randint(6, (3, 24), generator=seeded(0))
    where = torch.rand(3, 24, generator=seeded(1)) < 0.5
    times = torch.tensor([0.1, 0.5, 0.9])
    for name, config in configs.items():
        network = fresh(config, forward_of("uniform"), "posterior").model
        yield name, {"all": network(x, 0.4), "some": network(x, times, where)}


@group("markov chain")
def markov_chain() -> Results:
    """The exact posterior of a chain, of each kernel; with a time for each sequence, too."""
    for kernel in KERNELS:
        n = symbols_of(kernel)
        transition = numbers(n, n).softmax(-1)
        initial = torch.full((n,), 1 / n, dtype=torch.float64)
        chain = MarkovChain(forward_of(kernel), initial, transition)
        x = torch.randint(n, (3, 10), generator=seeded(0))
        x = chain.forward.sample_transition(x, 0.0, 0.6, generator=seeded(1))
        yield kernel, [chain(x, 0.6), chain(x, torch.tensor([0.2, 0.5, 0.9]))]


# Samples.


@group("sample toys")
def sample_toys() -> Results:
    """Every sampler on each kernel that it serves, with and without given sites."""
    shape = (24, 4)
    one = Given(torch.tensor([2, 0, 1, 1]), torch.tensor([True, False, False, True]))
    keys = torch.rand(shape, generator=seeded(11)).argsort(-1).argsort(-1)
    each = Given(torch.randint(3, shape, generator=seeded(10)), keys < 2)
    for given_name, given in (("", None), (", given", one), (", given each", each)):
        for kernel in KERNELS:
            for name, (sampler, served) in OF_TIMES.items():
                if kernel in served:
                    found = run(toy(kernel), sampler, TIMES, shape, given)
                    yield f"{kernel}/{name}{given_name}", found
            for name, (sampler, served) in FREE.items():
                if kernel in served:
                    found = run(toy(kernel), sampler, None, shape, given)
                    yield f"{kernel}/{name}{given_name}", found
        for name, sampler in BY_COUNT.items():
            counts = CountSchedule([1, 3] if given is None else [1, 1], order=Spread())
            found = run(toy("absorbing"), sampler, counts, shape, given)
            yield f"absorbing/{name}{given_name}", found


@group("sample from later on")
def sample_late() -> Results:
    """Runs that start from a state, and what the callback sees."""
    for kernel in KERNELS:
        start = toy_data(kernel, 8)
        if kernel == "absorbing":
            start[:, ::2] = toy(kernel).forward.vocab_size - 1
        yield kernel, late_run(toy(kernel), start)


def late_run(reverse: ReverseProcess, start: Tensor) -> dict[str, object]:
    seen: list[tuple[float, Tensor]] = []

    def see(t: float, x: Tensor) -> None:
        seen.append((t, x.clone()))

    made = simulate(
        reverse,
        Tweedie(),
        TimeSchedule([0.6, 0.2, 0.0]),
        (len(start), start.shape[1]),
        generator=seeded(1),
        initial=start,
        callback=see,
    )
    return {"samples": made.samples, "seen": seen}


@group("sample countdown")
def sample_countdown() -> Results:
    """The trained network."""
    reverse, data = model("countdown").reverse, data_of("countdown", 2)
    for name, (sampler, served) in OF_TIMES.items():
        if "absorbing" in served:
            yield name, run(reverse, sampler, TIMES, (2, 256))
    for name, sampler in BY_COUNT.items():
        for order in ("random", "spread", "blocks"):
            schedule = CountSchedule([6, 50, 100, 100], order=ORDERS[order])
            if name == "k-gillespie" or order == "random":  # MaskGIT chooses the sites itself.
                yield f"{name}/{order}", run(reverse, sampler, schedule, (2, 256))
    given = Given(data, first_sites(256, 200).expand(2, -1))
    yield "tweedie, given", run(reverse, Tweedie(), TIMES, (2, 256), given)
    counts = CountSchedule([6, 50], order=Spread())
    yield "k-gillespie, given", run(reverse, KGillespie(), counts, (2, 256), given)
    given = Given(data, first_sites(256, 240).expand(2, -1))
    for name in ("first-hitting", "entropy-bounded", "gillespie"):
        yield f"{name}, given", run(reverse, FREE[name][0], None, (2, 256), given)
    half = load("countdown", dtype=torch.bfloat16).reverse
    yield "tweedie, bfloat16", run(half, Tweedie(), TIMES, (2, 256))


@group("sample exact countdown")
def sample_exact_countdown() -> Results:
    for kernel in ("absorbing", "uniform", "gaussian"):
        name = "countdown-exact" if kernel == "absorbing" else f"countdown-exact-{kernel}"
        reverse = model(name).reverse
        given = Given(data_of(name, 1)[0], first_sites(256, 64))
        for sampler_name, (sampler, served) in OF_TIMES.items():
            if kernel in served:
                yield f"{kernel}/{sampler_name}", run(reverse, sampler, TIMES, (3, 256), given)
    reverse = model("countdown-exact").reverse
    for name in ("first-hitting", "entropy-bounded", "entropy-bounded-1", "gillespie"):
        yield f"absorbing/{name}", run(reverse, FREE[name][0], None, (2, 256))


@group("sample piano")
def sample_piano() -> Results:
    data = melodies(1)
    given = Given(data, first_sites(256, 32).expand(1, -1))
    times = TimeSchedule([1.0, 0.5, 0.0])
    for name in ("tweedie", "euler", "tau-leaping", "tau-leaping-ordinal", "tweedie-corrected"):
        found = run(model("piano-uniform").reverse, OF_TIMES[name][0], times, (1, 256), given)
        yield f"uniform/{name}", found
    for name in ("tweedie", "ancestral", "remdm"):
        found = run(model("piano-absorbing").reverse, OF_TIMES[name][0], times, (1, 256), given)
        yield f"absorbing/{name}", found
    counts = CountSchedule([24, 200], order=Spread())
    found = run(model("piano-absorbing").reverse, KGillespie(), counts, (1, 256), given)
    yield "absorbing/k-gillespie", found


@group("sample log-scores")
def sample_log_scores() -> Results:
    """Networks whose output is the log-score, or the posterior that leaves one site out."""
    config = DiTConfig(vocab_size=6, **TINY)
    for output, kernel in (
        ("log-score", "absorbing"),
        ("log-score", "uniform"),
        ("leave-one-out", "uniform"),
    ):
        reverse = fresh(config, forward_of(kernel), output)
        for name, (sampler, served) in OF_TIMES.items():
            if kernel in served:
                yield f"{output}/{kernel}/{name}", run(reverse, sampler, TIMES, (4, 24))


def large(kernel: str) -> ReverseProcess:
    """A network of so many symbols that sites are drawn and compared in blocks."""
    config = DiTConfig(vocab_size=5000, **TINY)
    noise = LogLinear()
    if kernel == "absorbing":
        return fresh(config, Absorbing(vocab_size=5000, noise=noise), "posterior")
    return fresh(config, Uniform(vocab_size=5000, noise=noise), "log-score")


@group("sample large vocabulary")
def sample_large() -> Results:
    for kernel in ("absorbing", "uniform"):
        for name in ("tweedie", "euler", "tau-leaping"):
            times = TimeSchedule([1.0, 0.6, 0.0])
            found = run(large(kernel), OF_TIMES[name][0], times, (8, 64))
            yield f"{kernel}/{name}", found
    for name, sampler in BY_COUNT.items():
        yield (
            f"absorbing/{name}",
            run(large("absorbing"), sampler, CountSchedule([60, 4]), (16, 64)),
        )


# Searches.


@group("search toys")
def search_toys() -> Results:
    """The shortest path with each sampler, and JYS in its four variants, on each kernel."""
    for kernel in KERNELS:
        reverse, data = toy(kernel), toy_data(kernel, 32)
        for name in ("tweedie", "euler", "tau-leaping"):
            found = search(
                reverse, data, [1, 2, 4, 7], ShortestPath(measure=Measure.MODEL), OF_TIMES[name][0]
            )
            yield f"{kernel}/shortest path, {name}", found
        for name, method in ALL_JYS.items():
            yield f"{kernel}/{name}", search(reverse, data, [2, 4], method)
        corrected = PredictorCorrector(Tweedie())
        yield f"{kernel}/jys, tweedie-corrected", search(reverse, data, [4], JYS(), corrected)
        path = ShortestPath(
            12, 0.0, 40, correction=ErrorCorrection(0.3, 0.5), measure=Measure.MODEL
        )
        yield f"{kernel}/shortest path, other settings", search(reverse, data, [3, 12], path)


@group("search toys of the absorbing kernel")
def search_absorbing_toys() -> Results:
    """Orders, counts, rules in closed form."""
    reverse, data = toy("absorbing"), toy_data("absorbing", 32)
    counts = KGillespie()
    for name, order in ORDERS.items():
        method = ShortestPath(order=order, measure=Measure.MODEL)
        yield f"shortest path, {name}", search(reverse, data, [1, 2, 3, 4], method, counts)
    yield "learned order", search(reverse, data, [1, 2, 3, 4], LearnedOrder(measure=Measure.MODEL))
    yield "jys of counts", search(reverse, data, [1, 2, 4], JYS(), counts)
    yield (
        "shortest path, ancestral",
        search(reverse, data, [2, 4], ShortestPath(measure=Measure.MODEL), Ancestral()),
    )
    for name, rule in CLOSED.items():
        yield name, search(reverse, data, [1, 2, 4, 7], rule)


@group("search exact countdown")
def search_exact_countdown() -> Results:
    """Every method of the absorbing kernel on sequences of 256 sites."""
    reverse, data = model("countdown-exact").reverse, data_of("countdown-exact", 6)
    for name, order in ORDERS.items():
        method = ShortestPath(order=order, measure=Measure.MODEL)
        yield f"shortest path, {name}", search(reverse, data, [2, 8], method, KGillespie())
    for name in ("tweedie", "euler", "tau-leaping", "ancestral"):
        found = search(
            reverse, data, [2, 8], ShortestPath(measure=Measure.MODEL), OF_TIMES[name][0]
        )
        yield f"shortest path, {name}", found
    learned = LearnedOrder(stationary=True, measure=Measure.MODEL)
    yield "learned order", search(reverse, data, [2, 8], learned)
    for name, other in (ALL_JYS | CLOSED).items():
        yield name, search(reverse, data, [4], other)
    yield "jys of counts", search(reverse, data, [4], JYS(), KGillespie())


@group("search exact countdown, other kernels")
def search_other_countdown() -> Results:
    for kernel in ("uniform", "gaussian"):
        name = f"countdown-exact-{kernel}"
        reverse, data = model(name).reverse, data_of(name, 3)
        for sampler in ("tweedie", "tau-leaping"):
            found = search(
                reverse,
                data,
                [4, 16],
                ShortestPath(16, measure=Measure.MODEL),
                OF_TIMES[sampler][0],
            )
            yield f"{kernel}/shortest path, {sampler}", found
        yield f"{kernel}/jys", search(reverse, data[:2], [2], JYS())


@group("search networks")
def search_networks() -> Results:
    reverse, data = model("countdown").reverse, data_of("countdown", 2)
    yield (
        "countdown/shortest path",
        search(reverse, data, [4, 8], ShortestPath(16, measure=Measure.MODEL)),
    )
    spread = ShortestPath(16, order=Spread(), measure=Measure.MODEL)
    yield "countdown/shortest path, spread", search(reverse, data, [4, 8], spread)
    yield "countdown/jys", search(reverse, data, [2], JYS())
    mask = first_sites(256, 32)
    for name in ("piano-uniform", "piano-absorbing"):
        found = search(
            model(name).reverse,
            melodies(2),
            [4],
            ShortestPath(6, measure=Measure.MODEL),
            given_mask=mask,
        )
        yield f"{name}/shortest path, given", found
    found = search(
        model("piano-uniform").reverse,
        melodies(2),
        [4],
        ShortestPath(6, measure=Measure.MODEL),
        TauLeaping(),
        mask,
    )
    yield "piano-uniform/shortest path of tau-leaping, given", found
    for kernel in ("absorbing", "uniform"):
        data = torch.randint(4999, (8, 64), generator=seeded(0))
        yield (
            f"large-{kernel}/shortest path",
            search(large(kernel), data, [3], ShortestPath(5, measure=Measure.MODEL)),
        )


@group("search with given sites")
def search_given() -> Results:
    reverse, data = model("countdown-exact").reverse, data_of("countdown-exact", 8)
    one = first_sites(256, 200)
    each = torch.rand(data.shape, generator=seeded(6)).argsort(-1).argsort(-1) < 150
    for name, mask in (("one", one), ("each", each)):
        yield (
            f"times, {name}",
            search(reverse, data, [4], ShortestPath(measure=Measure.MODEL), given_mask=mask),
        )
        spread = ShortestPath(order=Spread(), measure=Measure.MODEL)
        yield f"spread, {name}", search(reverse, data, [4], spread, given_mask=mask)
        two = mask if mask.ndim == 1 else mask[:2]
        yield f"jys, {name}", search(reverse, data[:2], [2], JYS(), given_mask=two)
        yield f"jys of counts, {name}", search(reverse, data[:2], [2], JYS(), KGillespie(), two)
    yield (
        "learned order",
        search(reverse, data, [4], LearnedOrder(measure=Measure.MODEL), given_mask=one),
    )
    for kernel in OTHERS:
        mask = torch.tensor([True, False, False, False])
        found = search(
            toy(kernel),
            toy_data(kernel, 16),
            [4],
            ShortestPath(measure=Measure.MODEL),
            given_mask=mask,
        )
        yield f"toy {kernel}", found


@group("search for a tolerance")
def search_tolerance() -> Results:
    for kernel in KERNELS:
        data = toy_data(kernel, 32)
        yield (
            f"toy {kernel}",
            search(toy(kernel), data, [], ShortestPath(measure=Measure.MODEL), tolerance=0.3),
        )
    reverse, data = model("countdown-exact").reverse, data_of("countdown-exact", 6)
    for order in ("random", "spread", "golden"):
        method = ShortestPath(order=ORDERS[order], measure=Measure.MODEL)
        yield f"countdown, {order}", search(reverse, data, [], method, KGillespie(), None, 20.0)


@group("learned order")
def learned_order() -> Results:
    reverse, data = model("countdown-exact").reverse, data_of("countdown-exact", 4)
    path = paths_of(reverse, data)
    found = dependence(reverse, path, stationary=True, generator=seeded(0))
    yield "dependence", found
    found = dependence(reverse, path, context_share=0.3, stationary=True, generator=seeded(0))
    yield "dependence, some known", found
    toys = paths_of(toy("absorbing"), toy_data("absorbing", 16))
    yield "toy", dependence(toy("absorbing"), toys, generator=seeded(0))
    order = learn_order(reverse, path, stationary=True, generator=seeded(0))
    yield "order", order.permutation


# What steps cost.


@group("costs of the profile")
def costs_of_profile() -> Results:
    for name, n in (("toy-absorbing", 32), ("countdown-exact", 6), ("countdown", 2)):
        path = paths_of(model(name).reverse, data_of(name, n))
        profile = information_profile(model(name).reverse, path, evaluations=12)
        yield f"{name}/profile", {"entropy": profile.entropy, "stderr": profile.stderr}
        smooth = profile.smoothed(2.0)
        yield f"{name}/smoothed", {"entropy": smooth.entropy, "stderr": smooth.stderr}
        grid = np.linspace(1, 0, 41)
        costs = smooth.step_costs(grid)
        yield f"{name}/table", {"value": costs.value, "stderr": costs.stderr}
        yield f"{name}/predicted", costs.predict(TIMES)
        curve = error_curve(costs, 6)
        yield f"{name}/error curve", {"cost": curve.cost, "stderr": curve.stderr}


@group("costs by count")
def costs_by_count() -> Results:
    for name, n in (("toy-absorbing", 32), ("countdown-exact", 6)):
        reverse = model(name).reverse
        path = paths_of(reverse, data_of(name, n))
        for order_name, order in ORDERS.items():
            costs = count_costs(
                reverse, path, order, evaluations=12, grid_intervals=64, generator=seeded(0)
            )
            values = {"grid": costs.grid, "value": costs.value, "stderr": costs.stderr}
            curve = error_curve(costs, 4)
            values |= {"curve": curve.cost, "curve's stderr": curve.stderr}
            yield f"{name}/{order_name}", values
    reverse, data = model("countdown").reverse, data_of("countdown", 2)
    costs = count_costs(
        reverse, paths_of(reverse, data), Spread(), evaluations=8, generator=seeded(0)
    )
    yield "countdown/spread", {"value": costs.value, "stderr": costs.stderr}


@group("costs of rates")
def costs_of_rates() -> Results:
    """Of each kernel, with the context or the rates frozen, smoothed and as measured."""
    for kernel in KERNELS:
        reverse, data = toy(kernel), toy_data(kernel, 32)
        yield from rates_of(f"toy {kernel}", reverse, data, 16)
    for kernel in ("uniform", "gaussian"):
        name = f"countdown-exact-{kernel}"
        yield from rates_of(name, model(name).reverse, data_of(name, 3), 10)
    yield from rates_of("countdown", model("countdown").reverse, data_of("countdown", 2), 8)


def rates_of(name: str, reverse: ReverseProcess, data: Tensor, points: int) -> Results:
    path = paths_of(reverse, data)
    for hold in (False, True):
        for bandwidth in (0.0, 2.0):
            costs = path_costs(
                reverse,
                path,
                evaluations=points,
                grid_intervals=40,
                hold_time=hold,
                bandwidth=bandwidth,
                generator=seeded(0),
            )
            values = {"calls": costs.model_calls, "predicted": costs.predict(TIMES)}
            values |= {"grid": costs.grid, "value": costs.value, "stderr": costs.stderr}
            kind = "rates" if hold else "context"
            yield f"{name}/{kind}, {'smoothed' if bandwidth else 'as measured'}", values


@group("klub")
def klub() -> Results:
    for kernel in KERNELS:
        reverse = toy(kernel)
        path = paths_of(reverse, toy_data(kernel, 32))
        for full in (False, True):
            for hold in (False, True):
                bound = Klub(reverse, path, 0.9, 0.2, full=full, hold_time=hold)
                yield f"{kernel}, {full=}, {hold=}", [bound.values(s) for s in (0.3, 0.5, 0.8)]
    reverse = model("countdown-exact").reverse
    path = paths_of(reverse, data_of("countdown-exact", 3))
    by_count = CountKlub(reverse, path, 200, 20)
    yield "counts", [by_count.values(n) for n in (30, 100, 180)]


@group("explain")
def explanations() -> Results:
    for kernel in KERNELS:
        yield from explained(f"toy {kernel}", toy(kernel), toy_data(kernel, 32))
    name = "countdown-exact-uniform"
    yield from explained(name, model(name).reverse, data_of(name, 2))
    yield from explained("countdown", model("countdown").reverse, data_of("countdown", 2))


def explained(name: str, reverse: ReverseProcess, data: Tensor) -> Results:
    schedules = [uniform(2), TIMES]
    found = explain(reverse, paths_of(reverse, data), schedules, generator=seeded(0))
    for one in found:
        each = [
            {"cde": step.cde, "context": step.context, "rates": step.rates, "klub": step.klub}
            for step in one.steps
        ]
        whole = {"tweedie": one.tweedie, "euler": one.euler}
        yield f"{name}, {len(each)} steps", whole | {"steps": each}
        yield f"{name}, {len(each)} steps, text", str(one)


# Schedules and files.


@group("schedules")
def schedules() -> Results:
    forward = model("countdown-exact").reverse.forward
    for name, times, counts in (
        ("uniform", uniform, uniform_counts),
        ("cosine", cosine, cosine_counts),
    ):
        yield name, times(7).times
        yield f"{name} counts", counts(7, 256).counts
        yield f"{name} tokens", [times(n).tokens_per_step(100) for n in (1, 4, 7, 30)]
        yield f"{name} to counts", times(7).to_counts(forward, 256).counts
        yield f"{name} to times", counts(7, 256).to_times(forward).times
        yield f"{name} plan", [(step.t, step.s) for step in counts(7, 256).plan(forward)]
    masks = Absorbing(vocab_size=6, noise=Cosine())
    times_of_jumps = CountSchedule([1, 5, 20]).to_times(masks).times
    yield "cosine noise", [times_of_jumps, TIMES.tokens_per_step(50, Cosine())]


@group("file of schedules")
def file_of_schedules() -> Results:
    known = Provenance(kernel="absorbing", noise="LogLinear(eps=0.001)", predicted_cost=1 / 3)
    order = Mixture(
        (Spread((2, 5)), Fixed(tuple(range(10))), Blocks(5, Golden())), (0.5, 0.25, 0.25)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schedules.json"
        save_schedules(path, {4: TimeSchedule(TIMES.times, known), 2: CountSchedule([3, 7], known)})
        content, again = json.loads(path.read_text()), load_schedules(path)
        yield "content", json.dumps(content, sort_keys=True)
        yield "read again", [written(schedule) for schedule in again.values()]
        save_schedules(path, {2: CountSchedule([3, 7], known, order)})
        yield "order", json.dumps(json.loads(path.read_text())["schedules"][0]["order"])
        read = load_schedules(path)[2]
        assert isinstance(read, CountSchedule)
        yield "order read again", read.order.ranks(4, 10, generator=seeded(0))


@group("card of schedules")
def card_of_schedules() -> Results:
    known = Provenance("shortest-path", "absorbing", model="some", predicted_cost=1.5)
    with tempfile.TemporaryDirectory() as folder:
        ScheduleSet({4: TimeSchedule(TIMES.times, known)}).save_pretrained(folder, repo_id="a/b")
        yield "text", (Path(folder) / "README.md").read_text()
        again = ScheduleSet.from_pretrained(folder)
        yield "read again", {n: written(schedule) for n, schedule in again.items()}


def command(*words: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = command_line(words)
    if status:
        raise RuntimeError(f"jumpsteps {' '.join(words)} ended with {status}")
    return out.getvalue()


@group("commands")
def commands() -> Results:
    """The command line; of what it writes the numbers, not the words."""
    with tempfile.TemporaryDirectory() as folder:
        times, counts = f"{folder}/times.json", f"{folder}/counts.json"
        samples, results = f"{folder}/samples.npz", f"{folder}/results.json"
        few = ("--sequences", "8", "--seed", "3")
        command("optimize", "countdown-exact", "--nfe", "2", "4", *few, "-o", times)
        yield "optimize", {n: written(found) for n, found in load_schedules(times).items()}
        spread = ("--order", "spread", *few, "-o", counts)
        command("optimize", "countdown-exact", "--nfe", "2", "4", *spread)
        yield "optimize, spread", {n: written(found) for n, found in load_schedules(counts).items()}
        for name, schedule in (("times", times), ("counts", counts), ("cosine", "cosine")):
            words = ("--schedule", schedule, "--nfe", "4", "-n", "5", "--batch", "2")
            command("sample", "countdown-exact", *words, "-o", samples)
            made = np.load(samples)
            yield f"sample, {name}", {"calls": int(made["nfe"]), "samples": made["samples"]}
        names = ("--schedules", "uniform", "jys", "shortest-path-spread", "--nfe", "2", "4")
        command("compare", "countdown-exact", *names, "-n", "5", *few, "-o", results)
        rows = json.loads(Path(results).read_text())["rows"]
        yield "compare", [[*row["times"], *row["metric"].values()] for row in rows]
        yield "explain", command("explain", "toy-gaussian", "--nfe", "3", *few)


# Training.


@group("losses")
def losses() -> Results:
    for kernel in ("absorbing", "uniform", "gaussian"):
        forward, data = forward_of(kernel), torch.randint(5, (4, 12), generator=seeded(0))
        config = DiTConfig(vocab_size=6, **TINY)
        posterior = fresh(config, forward, "posterior")
        loss = MaskedCrossEntropy() if kernel == "absorbing" else ScoreEntropy()
        yield f"{kernel}/posterior", loss(posterior, data, generator=seeded(1))
        given = replace(loss, given=3)
        yield f"{kernel}/posterior, given", given(posterior, data, generator=seeded(1))
        if kernel != "gaussian":
            scores = fresh(config, forward, "log-score")
            yield f"{kernel}/log-score", ScoreEntropy()(scores, data, generator=seeded(1))
        if kernel != "absorbing":
            both = ScoreEntropy(cross_entropy=0.1)
            others = fresh(config, forward, "leave-one-out")
            yield f"{kernel}/leave-one-out", both(others, data, generator=seeded(1))


@group("training")
def training() -> Results:
    """Two steps of some recipes with a tiny network: the averaged parameters, and what is
    logged.
    """
    for name in ("countdown", "piano-absorbing", "piano-uniform"):
        recipe = RECIPES[name]
        config = replace(recipe.config, steps=2, batch=2, bf16=False, log_every=1)
        tiny = replace(recipe.network, **TINY)
        made = {"countdown": lambda n, generator: countdown_data(n, generator=generator)}
        data = made.get(name, lambda n, generator: melodies(n, generator.initial_seed()))
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng([]):
            torch.manual_seed(0)
            network, reverse = build(tiny, recipe.forward, recipe.output)
            arguments = (reverse, network, recipe.loss, data, config, folder)
            _, average, _ = train(*arguments, evaluate=lambda: 1.0, progress=False)
            log = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        yield f"{name}/parameters", dict(sorted(average.items()))
        lines = [json.loads(line) for line in log]
        kept = [{key: line[key] for key in line if key != "seconds"} for line in lines]
        yield f"{name}/log", kept


@group("checkpoint")
def checkpoint() -> Results:
    """A recipe from its start to samples of the network that it saved."""
    recipe = RECIPES["countdown"]
    tiny = replace(recipe.network, **TINY)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng([]):
        small = replace(recipe, network=tiny)
        train_recipe(small, Path(folder), CPU, steps=2, batch=2, progress=False)
        config = json.loads((Path(folder) / "config.json").read_text())
        yield "config", json.dumps(config, sort_keys=True)
        read = load(folder)
    yield "samples", run(read.reverse, Tweedie(), TIMES, (2, 256))


# Metrics and melodies.


@group("metrics")
def metrics() -> Results:
    samples, reference = melodies(6, 1), melodies(6, 2)
    reference = torch.where(reference == REST, REST, reference + 2)
    yield "hellinger", hellinger(samples, reference, 129)
    songs, others = samples.reshape(2, 3, -1), reference.reshape(2, 3, -1)
    yield "energy distance", energy_distance(songs, others, 129)
    yield "outlier share", outlier_share(samples, reference, 129, REST)
    values = numbers(20)
    yield "group means", group_means(values, torch.arange(20) % 6)
    for name, one in (
        ("mean", mean_interval(values)),
        ("bootstrap", bootstrap_interval(values, seeded(0), resamples=200)),
    ):
        yield f"{name} interval", [one.mean, one.low, one.high]
    yield "violations", violations(torch.randint(4, (8, 30), generator=seeded(0)))
    yield "note distance", note_distance(samples, reference)
    yield "note outliers", note_outliers(samples, reference)
    yield "notes in key", notes_in_key(samples)
    yield "n-gram overlap", ngram_overlap(samples, 2)


@group("tasks")
def tasks() -> Results:
    """Data, and a sample as text."""
    for name in ("countdown", "toy-absorbing"):
        yield name, data_of(name, 4)
    yield "smoothed", countdown_data(4, generator=seeded(0), smoothing=0.1)
    for name, sample in (("countdown", data_of("countdown", 1)[0]), ("piano", melodies(1)[0])):
        task = model("piano-uniform" if name == "piano" else name).task
        assert task is not None
        yield f"{name} shown", task.show(sample)
        yield f"{name} metric", task.metric(sample[None])


@group("sound")
def sound() -> Results:
    yield "melody", render(melodies(1)[0, :32])


def byte_song() -> bytes:
    """A MIDI file byte by byte: three notes of a track without a name, a fourth of two at once."""
    notes = [(0, 600, 60), (720, 960, 64), (1020, 1860, 67), (2400, 3840, 60), (2880, 3360, 55)]
    events = [(start, bytes([0x90, pitch, 64])) for start, _, pitch in notes]
    events += [(end, bytes([0x80, pitch, 0])) for _, end, pitch in notes]
    events = [*sorted(events), (3840 * 2, b"\xff\x2f\x00")]
    ticks = [0] + [tick for tick, _ in events]
    waits = [after - before for before, after in pairwise(ticks)]
    each = zip(waits, events, strict=True)
    content = b"".join(bytes([128 | wait >> 7, wait & 127]) + event for wait, (_, event) in each)
    head = b"MThd" + (6).to_bytes(4, "big") + b"\x00\x00\x00\x01" + (480).to_bytes(2, "big")
    return head + b"MTrk" + len(content).to_bytes(4, "big") + content


@group("midi")
def midi() -> Results:
    if find_spec("mido") is None:
        print("no mido: MIDI files are left out", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bytes.mid").write_bytes(byte_song())
        read = read_steps(folder / "bytes.mid")
        values = {"polyphonic": read.polyphonic, "tempo": read.beats_per_minute}
        yield "read", {"tokens": read.tokens} | values
        for song in ("bytes.mid", "written.mid"):
            if song == "written.mid":
                write_steps(folder / song, melodies(1)[0], beats_per_minute=90)
                yield "written", (folder / song).read_bytes()
            given = read_melody(folder / song, 256)
            yield f"given, {song}", {"tokens": given.tokens, "mask": given.mask}
        songs = folder / "songs"
        songs.mkdir()
        for number, song in enumerate(melodies(24).split(1)):
            write_steps(songs / f"{number:03d}.mid", torch.cat([song[0], song[0, :64]]))
        data = read_midi(songs)
        yield "songs", {"train": data.train, "test": data.test, "song": data.test_song}
        yield "songs' name", data.name
        yield "songs drawn", data.sample_data(5, seeded(0))
        for file in sorted(songs.glob("*.mid")):
            lines = [f"{0.25 + 0.5 * i} {1 - i % 2} {int(i % 4 == 0)}" for i in range(78)]
            (songs / file.stem).mkdir()
            file.rename(songs / file.stem / file.name)
            (songs / file.stem / "beat_midi.txt").write_text("\n".join(lines))
        data = read_midi(songs)
        yield "songs with beats", {"train": data.train, "test": data.test, "song": data.test_song}
        data.save(folder / "arrays")
        data = read_songs(folder / "arrays")
        yield "arrays", {"train": data.train, "test": data.test, "song": data.test_song}


# The record.


def record(only: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The results of the groups that have ``only`` in their names, and the groups that failed."""
    found: dict[str, dict[str, str]] = {}
    failed = []
    for name, results in GROUPS.items():
        if only not in name:
            continue
        start = time.perf_counter()
        try:
            for part, value in results():
                key, digest = f"{name}/{part}", hashlib.sha256(bits(value)).hexdigest()
                if key in found:
                    raise KeyError(f"two results are called {key}")
                found[key] = {"sha256": digest, "shown": short(value)}
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"{time.perf_counter() - start:6.1f} s  {name}", file=sys.stderr, flush=True)
    return found, failed


def differences(
    before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Every result that differs, is missing or is new."""
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f"missing  {name}")
        elif name not in before:
            lines.append(f"new      {name}")
        elif before[name]["sha256"] != after[name]["sha256"]:
            old, new = before[name]["shown"], after[name]["shown"]
            lines.append(f"differs  {name}\n    before: {old}")
            lines[-1] += f"\n    after:  {new}" if old != new else " (in digits not shown)"
    return lines


def about() -> dict[str, str]:
    """What the last bits depend on besides the library."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON file of the record")
    parser.add_argument("--against", type=Path, help="an older record to compare with")
    parser.add_argument("--only", default="", help="only groups with this in their names")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found, failed = record(args.only)
    content = {"format": "jumpsteps-behaviour", "about": about(), "records": found}
    args.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(found)} results of {len(GROUPS)} groups; written to {args.out}")
    lines = [f"failed   {name}" for name in failed]
    if args.against is not None:
        old = json.loads(args.against.read_text())
        if old["about"] != about():
            print(f"note: that record was made with {old['about']}, this one with {about()}")
        known = old["records"]
        lines += differences({n: known[n] for n in known if args.only in n.split("/")[0]}, found)
        print(f"{len(lines)} differences from {args.against}")
    print("\n".join(lines), end="\n" * bool(lines))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())

"""What every sampler keeps to, whatever its distribution: one contract, for each sampler on each
kernel that it serves.

A new sampler is one line in ``builders.samplers.SAMPLERS``.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from builders.kernels import SCORE_KERNELS, kernel
from builders.samplers import ALL_KERNELS as KERNEL_NAMES
from builders.samplers import CASES, COUNTED, FREE, SAMPLERS, TIMED, serves
from builders.statistics import seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import LogScoreReverse, PosteriorReverse
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Constant
from jumpsteps.process.serialise import noise_to_json
from jumpsteps.sampling.ancestral import Ancestral, ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.blocked_gibbs import BlockedGibbs
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.event_driven import FirstHitting, Gillespie
from jumpsteps.sampling.klass import KLASS
from jumpsteps.sampling.loop import Simulation, simulate
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import EntropyBounded, KGillespie, MaskGIT
from jumpsteps.sampling.two_stage import ThetaRK2, ThetaTrapezoidal
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, Schedule, Step, TimeSchedule

SYMBOLS = 3
BATCH, LENGTH = 16, 4
TIMES = (1.0, 0.85, 0.3, 0.25, 0.0)
COUNTS = {1: (1,), 2: (2,), 4: (1, 3)}
"""A count schedule for each number of free sites."""

ALL_KERNELS = {name: kernel(name, SYMBOLS) for name in KERNEL_NAMES}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


SCORED = [case for case in CASES if case.values[1] in SCORE_KERNELS]

every_case = pytest.mark.parametrize(("sampler", "name"), CASES)
every_device = pytest.mark.parametrize("device", DEVICES)


@dataclass
class Neighbours:
    """A model whose logits depend on the two neighbours and on the time; keeps what it was
    asked.
    """

    forward: ForwardProcess
    dtype: torch.dtype = torch.float64
    asked: list[tuple[Tensor, Tensor, Tensor | None]] = field(default_factory=list)

    def __call__(self, x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        v, times = self.forward.vocab_size, torch.as_tensor(t, dtype=torch.float64)
        self.asked.append((x.clone(), times.clone(), where))
        left, right = torch.randn(2, v, v, generator=seeded(0), dtype=torch.float64).to(x.device)
        slope = torch.arange(v, device=x.device) * (times[:, None, None] if times.ndim else times)
        logits = left[x.roll(1, -1)] + right[x.roll(-1, -1)] + 0.5 * slope
        return (logits if where is None else logits[where]).to(self.dtype)


@dataclass
class Record:
    """A run, every state that the callback saw and every question that the model was asked."""

    run: Simulation
    seen: list[tuple[float, Tensor]]
    asked: list[tuple[Tensor, Tensor, Tensor | None]]

    @property
    def times(self) -> list[float]:
        return [t for t, _ in self.seen]

    @property
    def states(self) -> list[Tensor]:
        return [x for _, x in self.seen]


def schedule_for(sampler: Sampler, free: int) -> Schedule | None:
    if sampler.takes is None:
        return None
    return TimeSchedule(TIMES) if sampler.takes is TimeSchedule else CountSchedule(COUNTS[free])


def record(
    sampler: Sampler,
    name: str,
    device: str = "cpu",
    *,
    shape: tuple[int, int] = (BATCH, LENGTH),
    free: int | None = None,
    schedule: Schedule | None = None,
    seed: int = 1,
    given: Given | None = None,
    initial: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
    score: bool = False,
) -> Record:
    forward = ALL_KERNELS[name]
    model = Neighbours(forward, dtype)
    seen: list[tuple[float, Tensor]] = []
    run = simulate(
        (LogScoreReverse if score else PosteriorReverse)(forward, model),
        sampler,
        schedule or schedule_for(sampler, shape[1] if free is None else free),
        shape,
        generator=torch.Generator(device).manual_seed(seed),
        given=given,
        initial=initial,
        callback=lambda t, x: seen.append((t, x.clone())),
    )
    return Record(run, seen, model.asked)


def check_samples(samples: Tensor, shape: tuple[int, int], device: str) -> None:
    assert samples.dtype == torch.int64
    assert samples.shape == shape
    assert samples.device.type == device
    assert samples.min() >= 0
    assert samples.max() < SYMBOLS  # the absorbing kernel's MASK is the symbol after


@every_device
@every_case
def test_what_a_run_reports(sampler: Sampler, name: str, device: str) -> None:
    made = record(sampler, name, device)
    check_samples(made.run.samples, (BATCH, LENGTH), device)
    assert torch.equal(made.run.samples, made.states[-1])
    steps = len(made.states) - 1
    for what in (made.run.moved, made.run.clipped):
        assert what.dtype == torch.int64
        assert what.shape == (steps, BATCH)
    assert torch.equal(
        made.run.moved, torch.stack([(a != b).sum(-1) for a, b in pairwise(made.states)])
    )
    assert made.run.moved.sum() > 0
    assert (made.run.clipped >= 0).all()
    assert (made.run.clipped <= LENGTH).all()
    if isinstance(ALL_KERNELS[name], Absorbing):
        assert (made.states[0] == SYMBOLS).all()
    else:
        assert made.states[0].unique().tolist() == [0, 1, 2]


@every_device
@every_case
def test_all_randomness_comes_from_the_generator(sampler: Sampler, name: str, device: str) -> None:
    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device == "cuda" else [])]

    before = states()
    a, b, c = (record(sampler, name, device, seed=seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, before, states()))
    assert all(map(torch.equal, a.states, b.states))
    assert not torch.equal(a.run.samples, c.run.samples)


@every_device
@every_case
def test_every_call_is_counted(sampler: Sampler, name: str, device: str) -> None:
    made = record(sampler, name, device)
    assert made.run.nfe == len(made.asked) > 0
    schedule = schedule_for(sampler, LENGTH)
    if schedule is not None:
        calls = sampler.calls(schedule.steps)
        if isinstance(sampler, Ancestral):
            assert made.run.nfe <= calls
        elif calls is not None:
            assert made.run.nfe == calls


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_calls_and_steps_agree(sampler: Sampler, steps: int) -> None:
    if sampler.takes is None:
        assert sampler.calls(steps) is None
        with pytest.raises(ValueError, match="chooses its own steps"):
            sampler.steps(steps)
        return
    calls = sampler.calls(steps)
    assert sampler.steps(calls) == steps
    if sampler.takes is TimeSchedule:
        plan = [Step(1 - i / steps, 1 - (i + 1) / steps) for i in range(steps)]
        assert calls == sum(len(sampler.evaluation_times(step)) for step in plan)
    assert sampler.steps(sampler.calls(steps + 1) - 1) == steps
    if steps == 1:
        with pytest.raises(ValueError, match="raise it"):
            sampler.steps(calls - 1)


def test_times_of_the_model_calls_of_one_step() -> None:
    step = Step(1.0, 0.5)
    assert Tweedie().evaluation_times(step) == [1.0]
    assert ThetaTrapezoidal(theta=0.4).evaluation_times(step) == [1.0, 0.8]
    assert ThetaRK2(theta=0.5).evaluation_times(step) == [1.0, 0.75]
    corrected = PredictorCorrector(ThetaRK2(theta=0.5), corrections=2)
    assert corrected.evaluation_times(step) == [1.0, 0.75, 0.5, 0.5]
    assert corrected.evaluation_times(Step(0.5, 0.0)) == [0.5, 0.25]


@every_device
@pytest.mark.parametrize("times", [TIMES, (1.0, 0.0), (1.0, 0.5), uniform(3).times], ids=str)
@pytest.mark.parametrize(("sampler", "name"), TIMED)
def test_times_are_followed(
    sampler: Sampler, name: str, times: tuple[float, ...], device: str
) -> None:
    made = record(sampler, name, device, schedule=TimeSchedule(times))
    assert made.times == list(times)
    expected = [time for t, s in pairwise(times) for time in sampler.evaluation_times(Step(t, s))]
    asked = [float(t) for _, t, _ in made.asked]
    if isinstance(sampler, Ancestral):
        assert asked == [
            t for t, moved in zip(times, made.run.moved.sum(-1).tolist(), strict=False) if moved > 0
        ]
    elif isinstance(sampler, BlockedGibbs):  # is told of the masks of its own calls
        assert len(asked) == len(expected)
    else:
        assert asked == pytest.approx(expected, abs=1e-15)


@every_device
@pytest.mark.parametrize(("sampler", "name"), TIMED)
def test_a_run_can_start_late(sampler: Sampler, name: str, device: str) -> None:
    start = torch.randint(SYMBOLS, (BATCH, LENGTH), generator=seeded(3)).to(device)
    if name == "absorbing":
        start[:, ::2] = SYMBOLS
    kept = start.clone()
    made = record(sampler, name, device, schedule=TimeSchedule([0.6, 0.2, 0.0]), initial=start)
    assert made.times == [0.6, 0.2, 0.0]
    assert torch.equal(made.states[0], kept)
    assert torch.equal(start, kept)
    check_samples(made.run.samples, (BATCH, LENGTH), device)


@every_device
@pytest.mark.parametrize("counts", [(4,), (1, 3), (2, 1, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize(("sampler", "name"), COUNTED)
def test_counts_are_followed(
    sampler: Sampler, name: str, counts: tuple[int, ...], device: str
) -> None:
    made = record(sampler, name, device, schedule=CountSchedule(counts))
    noise, masked = ALL_KERNELS[name].noise, [4 - sum(counts[:i]) for i in range(len(counts) + 1)]
    assert [(x == SYMBOLS).sum(-1).tolist() for x in made.states] == [[n] * BATCH for n in masked]
    if not isinstance(sampler, BlockedGibbs):  # its calls change other sites, too
        assert made.run.moved.tolist() == [[n] * BATCH for n in counts]
        assert made.times == [float(t) for _, t, _ in made.asked] + [0.0]
    assert made.times[0] == 1
    share = [float(1 - noise.alpha(t)) for t in made.times[1:]]
    assert share == pytest.approx([n / 4 for n in masked[1:]])


def test_counts_are_followed_where_few_sites_are_masked_at_the_end() -> None:
    """At t = 1 only 39% of the sites are masked, so that the first steps have no time of their
    own.
    """
    forward = Absorbing(vocab_size=SYMBOLS + 1, noise=Constant(0.5))
    reverse = PosteriorReverse(forward, Neighbours(forward))
    run = simulate(
        reverse, KGillespie(), CountSchedule([1, 1, 1, 1]), (BATCH, LENGTH), generator=seeded(1)
    )
    assert run.moved.tolist() == [[1] * BATCH] * 4
    check_samples(run.samples, (BATCH, LENGTH), "cpu")


@every_device
@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize(("sampler", "name"), FREE)
def test_times_of_its_own_decrease(sampler: Sampler, name: str, batch: int, device: str) -> None:
    """Per sequence; seen from outside with one sequence, and with many as the latest time of
    any.
    """
    made = record(sampler, name, device, shape=(batch, LENGTH))
    asked = [t for _, t, _ in made.asked]
    assert all(((t > 0) & (t <= 1)).all() for t in asked)
    latest = [float(t.max()) for t in asked]
    assert all(after < before for before, after in pairwise(latest))
    assert made.times[0] == 1
    assert made.times[-1] == 0
    assert all(after < before for before, after in pairwise(made.times))


@every_device
@every_case
def test_the_model_is_asked_for_sites_that_can_move(
    sampler: Sampler, name: str, device: str
) -> None:
    forward = ALL_KERNELS[name]
    for x, t, where in record(sampler, name, device).asked:
        assert x.dtype == torch.int64
        assert x.shape[0] <= BATCH
        assert x.shape[1] == LENGTH
        assert t.shape in ((), x.shape[:1])
        assert where is not None
        assert where.dtype == torch.bool
        assert where.shape == x.shape
        assert not (where & ~forward.movable(x)).any()


def known_sites(kind: str) -> Given:
    """Two known sites, the same ones in every sequence or others in each; or any number of them,
    none and all included.
    """
    if kind == "batch":
        return Given(torch.tensor([2, 0, 1, 1]), torch.tensor([True, False, False, True]))
    tokens = torch.randint(SYMBOLS, (BATCH, LENGTH), generator=seeded(10))
    keys = torch.rand(BATCH, LENGTH, generator=seeded(11))
    mask = keys.argsort(-1).argsort(-1) < (
        2 if kind == "sequence" else torch.arange(BATCH)[:, None] % (LENGTH + 1)
    )
    return Given(tokens, mask)


@every_device
@pytest.mark.parametrize(
    ("sampler", "name", "kind"),
    [
        pytest.param(*case.values, kind, id=f"{case.id}-{kind}")
        for case in CASES
        for kind in ("batch", "sequence", "uneven")
        if not (kind == "uneven" and case in COUNTED)  # refused, see below
    ],
)
def test_given_sites_never_change(sampler: Sampler, name: str, kind: str, device: str) -> None:
    known = known_sites(kind)
    made = record(sampler, name, device, given=known, free=2)
    mask, tokens = (value.expand(BATCH, LENGTH).to(device) for value in (known.mask, known.tokens))
    for x in made.states:
        assert torch.equal(x[mask], tokens[mask])
    check_samples(made.run.samples, (BATCH, LENGTH), device)
    assert torch.equal(
        made.run.moved, torch.stack([(a != b).sum(-1) for a, b in pairwise(made.states)])
    )
    assert (made.states[0] != made.run.samples)[~mask].any()


@every_case
def test_the_model_sees_the_given_sites(sampler: Sampler, name: str) -> None:
    known = known_sites("batch")
    for x, _, _ in record(sampler, name, given=known, free=2).asked:
        assert (x[:, known.mask] == known.tokens[known.mask]).all()


@every_device
@every_case
def test_nothing_left_to_draw(sampler: Sampler, name: str, device: str) -> None:
    tokens = torch.tensor([2, 0, 1, 1])
    made = record(sampler, name, device, given=Given(tokens, torch.ones(LENGTH, dtype=torch.bool)))
    assert (made.run.samples.cpu() == tokens).all()
    assert (made.run.moved == 0).all()


every_low_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@every_device
@every_low_precision
@every_case
def test_models_of_low_precision(
    sampler: Sampler, name: str, dtype: torch.dtype, device: str
) -> None:
    check_samples(record(sampler, name, device, dtype=dtype).run.samples, (BATCH, LENGTH), device)


@every_device
@every_low_precision
@pytest.mark.parametrize(("sampler", "name"), SCORED)
def test_log_scores_of_low_precision(
    sampler: Sampler, name: str, dtype: torch.dtype, device: str
) -> None:
    check_samples(
        record(sampler, name, device, dtype=dtype, score=True).run.samples, (BATCH, LENGTH), device
    )


@every_device
@pytest.mark.parametrize("shape", [(1, 1), (1, LENGTH), (BATCH, 1)], ids=str)
@every_case
def test_one_sequence_and_one_site(
    sampler: Sampler, name: str, shape: tuple[int, int], device: str
) -> None:
    made = record(sampler, name, device, shape=shape)
    check_samples(made.run.samples, shape, device)
    assert made.run.moved.shape == (len(made.states) - 1, shape[0])


def refuse(
    sampler: Sampler, schedule: Schedule | None, given: Given | None = None, name: str | None = None
) -> None:
    """A run that is to be refused, before the model is called."""
    if name is None:
        name = "absorbing" if serves(sampler, ALL_KERNELS["absorbing"]) else "uniform"

    def model(x: Tensor, t: float | Tensor, where: Tensor | None = None) -> Tensor:
        raise AssertionError("the run was not refused")

    reverse = PosteriorReverse(ALL_KERNELS[name], model)
    simulate(reverse, sampler, schedule, (BATCH, LENGTH), generator=seeded(0), given=given)


def test_masked_samplers_serve_the_absorbing_kernel_alone() -> None:
    for sampler in (
        Ancestral(),
        ReMDM(),
        KGillespie(),
        MaskGIT(),
        FirstHitting(),
        EntropyBounded(),
        KLASS(),
    ):
        assert [name for name, forward in ALL_KERNELS.items() if serves(sampler, forward)] == [
            "absorbing"
        ]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
@pytest.mark.parametrize("name", ALL_KERNELS)
def test_kernels_that_a_sampler_does_not_serve_are_refused(sampler: Sampler, name: str) -> None:
    checked = sampler.predictor if isinstance(sampler, BlockedGibbs) else sampler
    if checked.kernels is not None and name not in checked.kernels:
        served = " and ".join(checked.kernels)
        message = f"{checked.name} serves the {served} kernel, this model has the {name} kernel"
    elif sampler.name == "tau-leaping-ordinal" and name == "absorbing":
        message = "the absorbing kernel's MASK is no number; use tau-leaping"
    else:
        sampler.check(ALL_KERNELS[name])
        return
    with pytest.raises(ValueError, match=message):
        refuse(sampler, schedule_for(sampler, LENGTH), name=name)


def test_a_corrector_serves_what_its_predictor_serves() -> None:
    for predictor in (Ancestral(), TauLeaping(ordinal=True)):
        for name in ("absorbing", "uniform"):
            assert serves(PredictorCorrector(predictor), ALL_KERNELS[name]) == serves(
                predictor, ALL_KERNELS[name]
            )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.name)
def test_schedules_of_another_kind_are_refused(sampler: Sampler) -> None:
    times, counts = TimeSchedule([1.0, 0.5, 0.0]), CountSchedule([2, 2])
    if sampler.takes is None:
        for schedule in (times, counts):
            with pytest.raises(
                ValueError,
                match=f"sampler {sampler.name} chooses its own steps; pass schedule=None",
            ):
                refuse(sampler, schedule)
        return
    wanted, other = (
        ("TimeSchedule", counts) if sampler.takes is TimeSchedule else ("CountSchedule", times)
    )
    for schedule, found in ((other, type(other).__name__), (None, "none")):
        with pytest.raises(
            ValueError,
            match=f"sampler {sampler.name} takes a {wanted}, got {found}; make one, or use",
        ):
            refuse(sampler, schedule)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *[
            (lambda kind=kind, theta=theta: kind(theta=theta), "theta must lie between 0 and 1")
            for kind in (ThetaTrapezoidal, ThetaRK2)
            for theta in (0.0, 1.0, -0.5, 1.5, float("nan"))
        ],
        *[
            (lambda gamma=gamma: EntropyBounded(gamma), "gamma must be")
            for gamma in (-0.1, float("nan"), float("inf"))
        ],
        *[
            (lambda value=value: KLASS(value), r"confidence is a probability in \[0, 1\]")
            for value in (-0.1, 1.1, float("nan"))
        ],
        *[
            (lambda value=value: KLASS(divergence=value), "divergence must be zero or more")
            for value in (-0.1, float("nan"), float("inf"))
        ],
        (lambda: KLASS(history=-1), "history is a number of calls"),
        *[
            (lambda value=value: MaskGIT(value), "temperature must be")
            for value in (-1.0, float("nan"), float("inf"))
        ],
        *[
            (lambda cap=cap: ReMDM(cap=cap), "cap and rescale must lie")
            for cap in (1.01, -0.1, float("nan"))
        ],
        (lambda: ReMDM(rescale=1.01), "cap and rescale must lie"),
        *[
            (lambda t=t: Gillespie(t_min=t), "t_min must lie between 0 and 1")
            for t in (0.0, 1.0, -1.0, float("nan"))
        ],
        (lambda: PredictorCorrector(corrections=0), "corrections must be 1 or more"),
        *[
            (lambda size=size: PredictorCorrector(size=size), "size must be positive")
            for size in (0.0, -1.0, float("nan"))
        ],
        *[
            (
                lambda inner=inner: PredictorCorrector(inner),
                f"follows a time schedule, {inner.name} does not",
            )
            for inner in (KGillespie(), MaskGIT(), Gillespie(), FirstHitting(), EntropyBounded())
        ],
    ],
)
def test_bad_parameters_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_for_another_noise_is_refused_for_counts_too() -> None:
    schedule = CountSchedule(
        [4], Provenance(kernel="absorbing", noise=noise_to_json(Constant(2.0)))
    )
    with pytest.raises(ValueError, match="optimised for the noise schedule"):
        refuse(KGillespie(), schedule)

import json
import math
from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.statistics import seeded
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import Constant, Cosine, Exponential, Geometric, LogLinear
from jumpsteps.process.serialise import noise_to_json
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.files import at_nfe, load_schedules, save_schedules
from jumpsteps.schedules.fixed import cosine, cosine_counts, power, uniform, uniform_counts
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, Step, TimeSchedule
from jumpsteps.version import __version__


def test_uniform_and_cosine_times():
    assert uniform(4).times == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert cosine(2).times == pytest.approx((1.0, math.cos(math.pi / 4), 0.0))
    for make in (uniform, cosine):
        for n in (1, 2, 7, 64):
            schedule = make(n)
            assert schedule.steps == n
            assert schedule.times[0] == 1
            assert schedule.times[-1] == 0
            assert schedule.provenance.method == make.__name__


def test_powers_of_uniform_times():
    assert power(4, 2.0).times == (1.0, 0.5625, 0.25, 0.0625, 0.0)
    assert power(7, 1.0).times == uniform(7).times
    assert power(4, 0.5).provenance.method == "power 0.5"
    for steps, exponent, words in ((0, 1.0, "at least 1"), (2, 0.0, "must be positive, got 0.0")):
        with pytest.raises(ValueError, match=words):
            power(steps, exponent)


@pytest.mark.parametrize("make", [uniform, cosine])
def test_no_steps_are_refused(make):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make(0)


@pytest.mark.parametrize(
    "times", [[1.0], [0.5, 0.5], [0.2, 0.4], [1.2, 0.0], [1.0, float("nan"), 0.0], [1.0, -0.1]]
)
def test_bad_times_are_refused(times):
    with pytest.raises(ValueError, match=r"times"):
        TimeSchedule(times)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.sets(st.floats(0, 1, exclude_min=True, exclude_max=True), max_size=20), st.integers(0, 2**31)
)
def test_files_keep_every_bit(tmp_path_factory, inner, seed):
    path = tmp_path_factory.mktemp("schedules") / "s.json"
    schedule = TimeSchedule(
        [1.0, *sorted(inner, reverse=True), 0.0],
        Provenance(method="m", seed=seed, predicted_cost=0.1),
    )
    save_schedules(path, {schedule.steps: schedule})
    assert load_schedules(path) == {schedule.steps: schedule}


def test_a_file_holds_several_and_says_which(tmp_path):
    path = tmp_path / "s.json"
    save_schedules(path, {8: uniform(8), 4: cosine(4)})
    found = load_schedules(path)
    assert at_nfe(found, 4, path) == cosine(4)
    with pytest.raises(ValueError, match=r"holds schedules for NFE \[4, 8\], not 16"):
        at_nfe(found, 16, path)


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), "not a file of schedules"),
        (lambda c: c.update(schema_version=99), "schema version 99"),
        (lambda c: c["schedules"][0]["times"].reverse(), "decrease strictly"),
        (lambda c: c["schedules"][0].pop("times"), "damaged"),
        (lambda c: c["schedules"][0].update(times=3), "damaged"),
        (lambda c: c["schedules"][0].update(nfe=3), "less than the 4 steps"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = tmp_path / "s.json"
    save_schedules(path, {4: uniform(4)})
    edited(path, change)
    with pytest.raises(ValueError, match=message):
        load_schedules(path)


def test_files_of_version_0_1_hold_the_noise_schedule_as_text(tmp_path):
    path = tmp_path / "s.json"
    forward = Absorbing(vocab_size=3, noise=LogLinear())
    schedule = TimeSchedule([1.0, 0.0], Provenance(method="m").with_forward(forward))
    save_schedules(path, {1: schedule})
    new = json.loads(path.read_text())["schedules"][0]["provenance"]["noise"]
    assert new == {"type": "LogLinear", "eps": 0.001}

    def older(content):
        content["schema_version"] = 1
        content["schedules"][0]["provenance"]["noise"] = "LogLinear(eps=0.001)"

    edited(path, older)
    assert load_schedules(path) == {1: schedule}
    edited(path, lambda c: c["schedules"][0]["provenance"].update(noise="Steps(at=[0.5])"))
    kept = load_schedules(path)[1]
    assert kept.provenance.facts()["noise"] == "Steps(at=[0.5])"
    with pytest.raises(ValueError, match=r"for the noise schedule Steps\(at=\[0.5\]\), this model"):
        kept.check_kernel(forward)
    edited(path, lambda c: c["schedules"][0]["provenance"].update(noise=""))
    load_schedules(path)[1].check_kernel(Absorbing(vocab_size=3, noise=Constant(3.0)))


@pytest.mark.parametrize(
    "noise", [LogLinear(), Cosine(0.01), Constant(2.0), Exponential(10.0, 0.3), Geometric()]
)
def test_a_noise_schedule_survives_the_file_and_is_shown_as_text(tmp_path, noise):
    path = tmp_path / "s.json"
    forward = Absorbing(vocab_size=3, noise=noise)
    save_schedules(path, {1: TimeSchedule([1.0, 0.0], Provenance().with_forward(forward))})
    found = load_schedules(path)[1]
    found.check_kernel(forward)
    assert found.provenance.facts()["noise"] == repr(noise)


def test_a_search_is_written_down_once():
    forward = Absorbing(vocab_size=3, noise=LogLinear())
    about = Provenance(model="m", model_hash="h", data="d", predicted_cost=9.0)
    known = about.with_search(
        forward, method="jys", sampler="tweedie", sequences=8, seed=1, model_calls=40
    ).with_error(2.0, None)
    assert known == Provenance(
        method="jys",
        kernel="absorbing",
        noise={"type": "LogLinear", "eps": 0.001},
        sampler="tweedie",
        model="m",
        model_hash="h",
        data="d",
        sequences=8,
        seed=1,
        model_calls=40,
        predicted_cost=2.0,
        version=__version__,
    )


def test_missing_and_garbled_files(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        load_schedules(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        load_schedules(tmp_path / "bad.json")


def test_a_schedule_for_another_kernel_or_noise_is_refused():
    schedule = TimeSchedule(
        [1.0, 0.0], Provenance(kernel="absorbing", noise=noise_to_json(LogLinear()))
    )
    schedule.check_kernel(Absorbing(vocab_size=3, noise=LogLinear()))
    with pytest.raises(
        ValueError, match="optimised for the kernel absorbing, this model has uniform"
    ):
        schedule.check_kernel(Uniform(vocab_size=3, noise=LogLinear()))
    with pytest.raises(ValueError, match=r"noise schedule LogLinear\(eps=0.001\)"):
        schedule.check_kernel(Absorbing(vocab_size=3, noise=Constant(3.0)))


@pytest.mark.parametrize("make", [uniform_counts, cosine_counts])
def test_fixed_count_schedules(make):
    for steps, total in ((1, 1), (1, 7), (7, 7), (4, 64), (64, 256), (5, 6), (63, 64)):
        schedule = make(steps, total)
        assert schedule.steps == steps
        assert schedule.total == total
        assert min(schedule.counts) >= 1
        assert schedule.provenance.method == make.__name__.removesuffix("_counts")
    assert uniform_counts(4, 64).counts == (16, 16, 16, 16)
    assert list(cosine_counts(8, 256).counts) == sorted(cosine_counts(8, 256).counts)
    with pytest.raises(ValueError, match="3 sites cannot be revealed in 4 steps"):
        make(4, 3)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make(0, 3)


@pytest.mark.parametrize("counts", [[], [0], [3, 0, 1], [-1, 2], [1.5, 2]])
def test_bad_counts_are_refused(counts):
    with pytest.raises(ValueError, match="positive whole numbers"):
        CountSchedule(counts)


def test_the_steps_of_a_plan():
    forward = Absorbing(vocab_size=4, noise=LogLinear(eps=0.01))
    times = TimeSchedule([1.0, 0.3, 0.0]).plan(forward)
    assert times == [Step(1.0, 0.3), Step(0.3, 0.0)]
    plan = CountSchedule([1, 2, 1]).plan(forward)
    assert [step.count for step in plan] == [1, 2, 1]
    assert [step.t for step in plan] == pytest.approx([1.0, 0.75 / 0.99, 0.25 / 0.99])
    assert [step.s for step in plan] == pytest.approx([0.75 / 0.99, 0.25 / 0.99, 0.0])
    little = Absorbing(vocab_size=4, noise=Constant(0.5))
    assert [step.t for step in CountSchedule([1, 99]).plan(little)] == [
        1.0,
        1.0,
    ]  # more masked than the noise ever masks


def test_files_hold_counts_too(tmp_path):
    path = tmp_path / "s.json"
    schedules = {4: uniform(4), 8: CountSchedule([1, 2, 3], Provenance(sampler="k-gillespie"))}
    save_schedules(path, schedules)
    assert load_schedules(path) == schedules
    edited(path, lambda c: c["schedules"][1].update(counts=[1, 0]))
    with pytest.raises(ValueError, match="positive whole numbers"):
        load_schedules(path)


NOISES = [
    LogLinear(),
    LogLinear(eps=0.2),
    Cosine(),
    Constant(0.5),
    Exponential(base=10.0, scale=0.3),
    Geometric(),
]


def still_masked(noise, times):
    """The probability that a site masked at the first time is masked at each: step by step, from
    the noise schedule's survival.
    """
    shares = [1.0]
    for t, s in pairwise(times):
        alpha_t, alpha_s = (float(torch.exp(-noise.total(u))) for u in (t, s))
        shares.append(shares[-1] * (1 - (alpha_s - alpha_t) / (1 - alpha_t)))
    return shares


def test_tokens_of_log_linear_times_follow_the_times():
    assert TimeSchedule([1.0, 0.7, 0.3, 0.1, 0.0]).tokens_per_step(20) == (6, 8, 4, 2)
    assert TimeSchedule([0.5, 0.1, 0.0]).tokens_per_step(10, LogLinear(eps=0.3)) == (8, 2)
    assert uniform(4).tokens_per_step(10) == (
        2,
        3,
        2,
        3,
    )  # 2.5 each: of 7.5 masked tokens 8 are left
    assert uniform(4).tokens_per_step(2) == (0, 1, 0, 1)
    assert uniform(4).tokens_per_step(1024) == (256,) * 4
    assert uniform(4).tokens_per_step(6) == (1, 2, 1, 2)
    assert uniform(4).tokens_per_step(86) == (
        21,
        22,
        21,
        22,
    )  # where 64.5 comes out of the noise schedule as a little less


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.sets(st.floats(0.01, 1), min_size=1, max_size=12),
    st.integers(1, 5000),
    st.sampled_from(NOISES),
    st.floats(0.001, 1),
)
def test_tokens_are_the_expected_ones_rounded(inner, length, noise, first):
    times = [*sorted({first * t for t in inner}, reverse=True), 0.0]
    counts = TimeSchedule(times).tokens_per_step(length, noise)
    assert sum(counts) == length
    shares = still_masked(noise, times)
    for count, before, after in zip(counts, shares, shares[1:], strict=False):
        expected = length * (before - after)
        assert abs(count - expected) < 1 + 1e-5
        assert count >= (expected >= 1 + 1e-5)
    left = [length - done for done in accumulate(counts, initial=0)]
    assert all(abs(n - length * share) < 0.5 + 1e-5 for n, share in zip(left, shares, strict=True))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=16), st.sampled_from(NOISES))
def test_counts_survive_their_times(counts, noise):
    forward, schedule = Absorbing(vocab_size=4, noise=noise), CountSchedule(counts)
    times = schedule.to_times(forward)
    left = [sum(counts[i:]) / sum(counts) for i in range(len(counts) + 1)]
    assert still_masked(noise, times.times) == pytest.approx(left, abs=1e-8)
    assert (
        times.tokens_per_step(schedule.total, noise)
        == schedule.counts
        == schedule.tokens_per_step(schedule.total)
    )
    assert times.to_counts(forward, schedule.total).counts == schedule.counts


def test_counts_of_times_are_positive():
    forward = Absorbing(vocab_size=4, noise=LogLinear())
    fast = TimeSchedule([1.0, 0.99, 0.5, 0.49, 0.0])
    assert fast.tokens_per_step(8) == (0, 4, 0, 4)
    assert fast.to_counts(forward, 8).counts == (1, 3, 1, 3)
    with pytest.raises(ValueError, match="3 sites cannot be revealed in 4 steps"):
        fast.to_counts(forward, 3)


def test_what_conversion_keeps_of_the_provenance():
    forward = Absorbing(vocab_size=4, noise=Cosine())
    found = Provenance(
        method="m",
        kernel="absorbing",
        noise=noise_to_json(Cosine()),
        model="x",
        seed=3,
        predicted_cost=2.0,
    )
    kept = Provenance(
        method="m", kernel="absorbing", noise=noise_to_json(Cosine()), model="x", seed=3
    )
    assert TimeSchedule([1.0, 0.5, 0.0], found).to_counts(forward, 9).provenance == kept
    assert CountSchedule([4, 5], found).to_times(forward).provenance == kept
    assert uniform(4).to_counts(forward, 9).provenance == Provenance(
        method="uniform", kernel="absorbing", noise=noise_to_json(Cosine())
    )


def test_tokens_of_a_prompted_run_are_the_free_ones():
    forward = Absorbing(vocab_size=4, noise=LogLinear())
    reverse = PosteriorReverse(forward, Enumerable.random(forward, symbols=3, length=6, seed=0))
    prompt = Given(
        torch.tensor([2, 0, 0, 0, 0, 1]), torch.tensor([True, False, False, False, False, True])
    )
    free = int((~prompt.mask).sum())
    schedule = TimeSchedule([1.0, 0.75, 0.0])
    assert schedule.tokens_per_step(free) == (1, 3)
    counts = schedule.to_counts(forward, free)
    moved = simulate(reverse, KGillespie(), counts, (5, 6), generator=seeded(0), given=prompt).moved
    assert moved.tolist() == [[1] * 5, [3] * 5]


def test_what_cannot_be_counted_is_refused():
    cosine_noise, other = (
        Absorbing(vocab_size=4, noise=Cosine()),
        Uniform(vocab_size=4, noise=LogLinear()),
    )
    found = Provenance(kernel="absorbing", noise=noise_to_json(LogLinear()))
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        uniform(2).tokens_per_step(0)
    with pytest.raises(ValueError, match=r"ends at t = 0\.2, .* append the time 0"):
        TimeSchedule([1.0, 0.2]).tokens_per_step(8)
    with pytest.raises(
        ValueError, match=r"for the noise schedule LogLinear\(eps=0.001\), got Cosine\(eps=0.001\)"
    ):
        TimeSchedule([1.0, 0.0], found).tokens_per_step(8, Cosine())
    with pytest.raises(ValueError, match=r"for the noise schedule LogLinear"):
        TimeSchedule([1.0, 0.0], found).to_counts(cosine_noise, 8)
    with pytest.raises(ValueError, match=r"for the noise schedule LogLinear"):
        CountSchedule([8], found).to_times(cosine_noise)
    with pytest.raises(ValueError, match="for the uniform kernel, which masks no tokens"):
        TimeSchedule([1.0, 0.0], Provenance(kernel="uniform")).tokens_per_step(8)
    for convert in (
        lambda: uniform(2).to_counts(other, 8),
        lambda: CountSchedule([8]).to_times(other),
    ):
        with pytest.raises(
            ValueError, match="converted for the absorbing kernel, which masks; got uniform"
        ):
            convert()
    with pytest.raises(ValueError, match="at least one free site to reveal, got 0"):
        CountSchedule([8]).tokens_per_step(0)
    with pytest.raises(ValueError, match="reveals in spread order"):
        CountSchedule([8], order=Spread()).to_times(cosine_noise)

"""A race drops what is worse, keeps what is best, and is reproducible."""

from dataclasses import replace

import pytest
import torch

from builders.search import random_truth
from builders.statistics import seeded
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.evaluation.metrics import Interval
from jumpsteps.evaluation.race import compared, confirmed, interval_level, race
from jumpsteps.evaluation.race_result import Choice, Race, Runner, unit_of
from jumpsteps.evaluation.race_track import Track, default_similarity
from jumpsteps.evaluation.two_sample import OrdinalSimilarity, token_similarity
from jumpsteps.sampling.multistep import MultistepKGillespie
from jumpsteps.sampling.one_stage import TauLeaping
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.sampling.two_stage import ThetaTrapezoidal
from jumpsteps.schedules.fixed import cosine, uniform, uniform_counts
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.tasks import toy

LATE = TimeSchedule([1.0, 0.999, 0.998, 0.0])
"""Nearly one step."""


def setting(kernel, rows=64, seed=0):
    truth = random_truth(kernel)
    data = truth.sample_data(rows, generator=seeded(seed))
    return PosteriorReverse(truth.forward, truth), data


def countdown(kernel, rows):
    """Four symbols that count down at four sites: their dependence is strong."""
    return toy.reverse(kernel), toy.TASK.sample_data(rows, seeded(0))


def plain(nfe=3):
    return {"uniform": {nfe: uniform(nfe)}, "cosine": {nfe: cosine(nfe)}}


@pytest.mark.parametrize("kernel", ["absorbing", "uniform", "gaussian"])
def test_a_bad_schedule_is_dropped_and_numbers_are_reproducible(kernel):
    reverse, data = countdown(kernel, 256)
    schedules = plain() | {"late": {3: LATE}}
    options = {"samples": 512, "similarity": token_similarity}
    found = race(reverse, data, schedules, generator=seeded(0), **options)
    choice = found.choices[3]
    assert choice.runners["late"].dropped
    assert choice.winner in ("uniform", "cosine")
    assert found.schedules[3].provenance.method == f"race, {choice.winner}"
    assert found.schedules[3].provenance.kernel == kernel
    again = race(reverse, data, schedules, generator=seeded(0), **options)
    assert str(again) == str(found)
    assert f"* {choice.winner}" in str(found)
    assert str(race(reverse, data, schedules, generator=seeded(1), **options)) != str(found)


def test_equal_schedules_are_dropped_at_most_as_often_as_the_level_says():
    """Four sets of samples of one distribution, not the data's, at a level of 80%: in 200 races the
    first is dropped 40 times at most on average, and more than 62 times with probability 1e-4.
    """
    truth, other = random_truth("uniform"), random_truth("gaussian")
    reverse = PosteriorReverse(truth.forward, truth)
    skewed = replace(other, table=other.table.flip(0, 1, 2))
    schedules = {f"{i}": uniform(2) for i in range(4)}
    dropped = 0
    for seed in range(200):
        data = truth.sample_data(64, generator=seeded(seed))
        track = Track.of(reverse, data, None, None, token_similarity, 512).half(0)
        tokens = {
            name: skewed.sample_data(32, generator=seeded(1000 * (1 + int(name)) + seed))
            for name in schedules
        }
        found = compared(track, schedules, tokens, level=interval_level(0.8, 4, 1))
        dropped += found["0"].dropped
        assert sum(one.behind is None for one in found.values()) == 1
    assert 2 < dropped <= 62


def test_the_level_of_an_interval_is_that_of_all_together():
    """One-sided, and as many as there are pairs with the best, in each round."""
    assert interval_level(0.95, 2, 1) == pytest.approx(0.9)
    assert interval_level(0.95, 6, 4) == pytest.approx(1 - 2 * 0.05 / 20)
    assert interval_level(0.95, 1, 4) == pytest.approx(1 - 2 * 0.05)


def test_a_plain_schedule_that_is_better_on_new_samples_is_returned():
    """A choice that was wrong is put right; one that was right stays."""
    reverse, data = countdown("uniform", 256)
    track = Track.of(reverse, data, None, None, token_similarity, 512).half(1)
    runners = {name: Runner(one, 16, None, False) for name, one in (("uniform", uniform(3)),)}
    runners["late"] = Runner(LATE, 16, None, False)
    for best in ("late", "uniform"):
        chosen = Choice(runners, best, 1, best)
        found = confirmed(track, chosen, 256, None, ("uniform", "late"), 0.95, seeded(0))
        (gap,) = found.again.values()
        assert gap.high < 0 if best == "late" else gap.low > 0
        assert found.winner == "uniform"


def test_the_last_comparison_has_simultaneous_intervals():
    """Two-sided, of two plain schedules together at 90%: Bonferroni."""
    reverse, data = setting("uniform")
    track = Track.of(reverse, data, None, None, token_similarity, 512).half(1)
    runners = {
        name: Runner(one[2], 16, None, False)
        for name, one in (plain(2) | {"third": plain(2)["uniform"]}).items()
    }
    chosen = Choice(runners, "third", 1, "third")
    found = confirmed(track, chosen, 16, None, ("uniform", "cosine"), 0.9, seeded(0))
    assert {name: one.level for name, one in found.again.items()} == {
        "uniform": 0.95,
        "cosine": 0.95,
    }


@pytest.mark.parametrize("masks", ["one", "each"])
def test_observed_sites_are_those_of_the_data(masks):
    """Samples have the tokens of their rows of data, whatever the rows' masks."""
    reverse, data = setting("uniform", 32)
    mask = torch.tensor([True, False, False])
    if masks == "each":
        mask = torch.stack([mask.roll(i % 2) for i in range(32)])
    track = Track.of(reverse, data, mask, TauLeaping(), token_similarity, 512).half(0)
    (samples,) = track.draw({"uniform": uniform(2)}, 0, 64, seeded(0)).values()
    rows = track.rows(0, 64)
    kept = mask.expand(data.shape)[::2][rows]
    assert torch.equal(samples[kept], data[::2][rows][kept])
    assert not torch.equal(samples, data[::2][rows])
    found = race(
        reverse,
        data,
        plain(2),
        given_mask=mask,
        samples=32,
        sampler=TauLeaping(),
        generator=seeded(0),
    )
    assert found.schedules[2].provenance.sampler == "tau-leaping"


def test_samples_depend_neither_on_the_batch_nor_on_where_a_round_begins():
    reverse, data = setting("absorbing", 32)
    schedules = {"uniform": uniform(2), "spread": uniform_counts(3, 3, Spread())}
    tracks = [Track.of(reverse, data, None, None, token_similarity, size) for size in (512, 14)]
    drawn = [track.draw(schedules, 16, 64, seeded(0)) for track in tracks]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in schedules)
    assert not torch.equal(drawn[0]["uniform"][:24], drawn[0]["uniform"][24:])


def test_counts_and_times_race_together_and_two_calls_a_step_are_counted():
    reverse, data = setting("absorbing")
    spread = uniform_counts(3, 3, Spread())
    found = race(reverse, data, plain() | {"spread": {3: spread}}, samples=64, generator=seeded(0))
    assert found.model_calls == 3 * (found.choices[3].used + 1)
    assert "spread" in found.choices[3].runners
    two = race(
        *setting("uniform"),
        {"uniform": {4: uniform(2)}, "cosine": {4: cosine(2)}},
        sampler=ThetaTrapezoidal(),
        samples=16,
        generator=seeded(0),
    )
    assert two.model_calls == 2 * 4


def test_what_a_search_said_of_another_sampler_is_left_out():
    """The samples are those of the sampler that is named, and the few-step NLL is another's."""
    reverse, data = setting("absorbing")
    known = Provenance(sampler="k-gillespie", few_step_nll=2.0, excess=1.0, seed=3)
    schedules = {"found": {2: CountSchedule([1, 2], known, Spread())}}
    for sampler, said in ((KGillespie(), (2.0, 1.0)), (MultistepKGillespie(), (None, None))):
        found = race(
            reverse, data, schedules, sampler=sampler, samples=16, generator=seeded(0)
        ).schedules[2]
        assert found.counts == (1, 2)
        assert (found.provenance.sampler, found.provenance.seed) == (sampler.name, 3)
        assert (found.provenance.few_step_nll, found.provenance.excess) == said


def test_the_budget_of_calls_is_kept():
    reverse, data = setting("uniform")
    for most in (6, 12, 40):
        found = race(
            reverse, data, plain(), samples=256, max_calls=most, batch=64, generator=seeded(0)
        )
        assert found.model_calls <= most
        assert found.choices[3].again
    with pytest.raises(ValueError, match="at least 2 model calls for each step, 6 in all, got 5"):
        race(reverse, data, plain(), max_calls=5, generator=seeded(0))
    with pytest.raises(ValueError, match="raise the number of model calls"):
        race(reverse, data, plain(), max_calls=6, batch=4, generator=seeded(0))


def test_the_table_of_a_race():
    """The nearest first, those that were dropped last; numbers share a power of ten."""

    def runner(samples, mean=None, dropped=False):
        behind = None if mean is None else Interval(mean, mean - 1e-4, mean + 2e-4, 0.95, 8)
        return Runner(uniform(2), samples, behind, dropped)

    runners = {
        "cosine": runner(32, 3e-4),
        "late": runner(16, 1e-4, dropped=True),
        "uniform": runner(32),
        "jys": runner(32, 2e-4),
    }
    again = {"cosine": Interval(-4e-2, -5e-2, -1e-2, 0.95, 8)}
    choice = Choice(runners, "uniform", 3, "cosine", again)
    header, *lines = choice.lines()
    assert "farther than the best, 1e-3" in header
    assert [line[:10].split() for line in lines] == [
        ["uniform"],
        ["jys"],
        ["*", "cosine"],
        ["late"],
    ]
    assert lines[0].split()[1:] == ["32", "best"]
    assert "0.30 [0.20, 0.50]" in lines[2]
    assert lines[2].endswith("-40.00 [-50.00, -10.00]")
    assert lines[3].endswith("16  0.10 [0.00, 0.30], dropped")
    text = str(Race({2: choice}, 0.95, 7, 90, 16))
    assert text.startswith("two-sample distance from 16 sequences")
    assert text.endswith("race: 7 model calls, 90 sequences evaluated in them")
    assert [unit_of([x]) for x in (0.0, 9.0, 10.0, 9999.0, 0.01, 0.0099)] == [0, -3, 0, 0, -3, -6]
    assert unit_of([]) == 0


def test_mistakes_are_named():
    reverse, data = setting("uniform")
    with pytest.raises(ValueError, match="at least 8 sequences"):
        race(reverse, data[:6], plain(), generator=seeded(0))
    with pytest.raises(ValueError, match="a race needs schedules"):
        race(reverse, data, {}, generator=seeded(0))
    with pytest.raises(ValueError, match="at least 16 samples"):
        race(reverse, data, plain(), samples=8, generator=seeded(0))
    with pytest.raises(ValueError, match="given_mask has shape"):
        race(reverse, data, plain(), given_mask=torch.ones(2), generator=seeded(0))


def test_the_similarity_fits_the_kernel():
    assert default_similarity(random_truth("gaussian").forward) == OrdinalSimilarity(3 / 8)
    assert default_similarity(random_truth("uniform").forward) is token_similarity

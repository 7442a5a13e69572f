"""Which sites each step reveals."""

import torch

from builders.statistics import seeded
from jumpsteps.evaluation.plots import new_figure, write
from jumpsteps.evaluation.reveals import DRAWN, KNOWN, MASKED, plot_orders, reveals
from jumpsteps.schedules.orders import Dilated, Fixed, Golden, Random
from jumpsteps.schedules.schedule import CountSchedule


def test_sites_are_masked_then_drawn_once_then_known():
    counts = (1, 2, 5, 8)
    for order in (Random(), Golden(), Dilated()):
        states = reveals(CountSchedule(counts, order=order), generator=seeded(0))
        assert (states == DRAWN).sum(1).tolist() == list(counts)
        assert ((states == DRAWN).sum(0) == 1).all()
        after = (states == DRAWN).cumsum(0)
        assert torch.equal(states == MASKED, after == 0)
        assert torch.equal(states == KNOWN, (after == 1) & (states != DRAWN))


def test_a_known_permutation():
    states = reveals(CountSchedule([1, 2], order=Fixed((2, 0, 1))), generator=seeded(0))
    assert states.tolist() == [[MASKED, DRAWN, MASKED], [DRAWN, KNOWN, DRAWN]]


def test_the_picture_has_a_part_for_each_schedule(tmp_path):
    figure = new_figure(6, 2)
    schedules = {"a": CountSchedule([2, 6]), "b": CountSchedule([4, 96], order=Golden())}
    plot_orders(figure, schedules, seed=0)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["site (the first 8 of 8)", "site (the first 64 of 100)"]
    write(figure, tmp_path / "orders.png")
    assert (tmp_path / "orders.png").stat().st_size > 1000

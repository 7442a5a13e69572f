import pytest
import torch

from builders.statistics import LEVEL, chi_square_p, seeded
from jumpsteps.tasks import TASKS, countdown


def test_data_never_breaks_the_rule_and_has_the_right_start():
    x = countdown.sample_data(4000, generator=seeded(0))
    assert x.shape == (4000, 256)
    assert x.dtype == torch.int64
    assert countdown.violations(x).max() == 0
    for site in (0, 100, 255):
        assert (
            chi_square_p(
                x[:, site], stationary() if site else torch.full((32,), 1 / 32, dtype=torch.float64)
            )
            > LEVEL
        )


def stationary():
    """The stationary distribution of a site, which site 255 has reached closely."""
    _, transition = countdown.chain()
    return torch.linalg.matrix_power(transition, 100_000)[0]


def test_data_follow_the_chain():
    """Pairs of neighbours at a fixed place, 60,000 sequences of 5 symbols."""
    initial, transition = countdown.chain(5)
    x = countdown.sample_data(60_000, generator=seeded(1), symbols=5, length=8)
    probs = torch.linalg.matrix_power(transition, 4)
    joint = (initial @ probs)[:, None] * transition
    assert chi_square_p(x[:, 4] * 5 + x[:, 5], joint.reshape(-1)) > LEVEL


def test_smoothed_data_follow_the_smoothed_chain():
    smoothing = 0.2
    initial, transition = countdown.chain(4)
    mixed = (1 - smoothing) * transition + smoothing / 4
    x = countdown.sample_data(60_000, generator=seeded(2), symbols=4, length=6, smoothing=smoothing)
    joint = (initial @ mixed)[:, None, None] * mixed[:, :, None] * mixed
    assert chi_square_p((x[:, 1] * 4 + x[:, 2]) * 4 + x[:, 3], joint.reshape(-1)) > LEVEL


def test_violations_count_broken_pairs():
    x = torch.tensor([[3, 2, 1, 0, 9], [3, 3, 1, 0, 0], [0, 0, 0, 5, 6]])
    assert countdown.violations(x).tolist() == [0, 0.5, 0.25]


def test_show_puts_a_countdown_on_a_line():
    assert countdown.show(torch.tensor([2, 1, 0, 12, 11])) == " 2  1  0\n12 11"


def test_the_task_is_complete():
    task = TASKS["countdown"]
    assert task.metric(task.sample_data(3, seeded(0))).tolist() == [0, 0, 0]
    assert (task.length, task.symbols) == (256, 32)


def test_sequences_are_similar_by_their_pairs_and_by_how_many_break_the_rule():
    x = torch.tensor([[3, 2, 1, 0, 2], [2, 1, 0, 3, 2], [3, 3, 3, 3, 3]])
    found = countdown.similarity(x, x)
    assert found.diagonal().tolist() == [0, 0, 0]
    # Three of four pairs are common to the first two, and none breaks the rule; all of the third's.
    assert found[0, 1].item() == pytest.approx(-((1 - 3 / 4) ** 0.5))
    assert found[0, 2].item() == -2

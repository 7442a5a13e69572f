"""Lists of jumps, against one generator for each jump."""

import pytest
import torch
from torch import Tensor

from builders.statistics import seeded
from jumpsteps.core.draws import integers
from jumpsteps.core.sample_generators import Generator, SampleGenerators, at_repeats
from jumpsteps.process import jump_lists
from jumpsteps.process.jump_lists import add_jumps

CPU = torch.device("cpu")
TIMES = torch.tensor([0, 2, 0, 7, 1, 0])


def drawn(site: Tensor, generator: Generator) -> Tensor:
    """A number for each jump, a million apart for every site."""
    own = integers(1000, tuple(site.shape), generator=generator, device=CPU)
    return 1_000_000 * (site + 1) + own


@pytest.mark.parametrize("devices", [(), ("cpu",)])
@pytest.mark.parametrize("ahead", [0, 1, 4, 1000])
@pytest.mark.parametrize("times", [TIMES, 3 * TIMES, 0 * TIMES, TIMES[:0]])
def test_each_jump_is_drawn_once_by_the_generator_of_its_repeat(
    times: Tensor, ahead: int, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are several times as many jumps as sites, and where there are none."""
    monkeypatch.setattr(jump_lists, "AHEAD", devices)
    total, start = int(times.sum()), torch.arange(len(times))
    site = start.repeat_interleave(times)
    expected = start.index_add(
        0, site, drawn(site, at_repeats(SampleGenerators(0, range(len(times))), times))
    )
    generator = SampleGenerators(0, range(len(times)))
    found = add_jumps(start.clone(), times, lambda: total, drawn, ahead=ahead, generator=generator)
    assert torch.equal(found, expected)


def test_no_more_jumps_are_drawn_at_a_time_than_there_are_sites(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before their number is known as many as asked for, and no more than sites either."""
    sizes: list[int] = []

    def noted(site: Tensor, generator: Generator) -> Tensor:
        sizes.append(len(site))
        return torch.ones_like(site)

    for devices, ahead, expected in (
        ((), 4, [6, 4]),
        (("cpu",), 4, [4, 6]),
        (("cpu",), 100, [6, 4]),
    ):
        monkeypatch.setattr(jump_lists, "AHEAD", devices)
        sizes.clear()
        moved = torch.zeros_like(TIMES)
        found = add_jumps(moved, TIMES, lambda: 10, noted, ahead=ahead, generator=seeded(0))
        assert found is moved
        assert torch.equal(found, TIMES)
        assert sizes == expected

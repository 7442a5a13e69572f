"""Forward paths of data with observed sites."""

import pytest
import torch

from builders.kernels import KERNELS, kernel
from builders.statistics import seeded
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.search.paths import Paths

MASK = 3
DATA = torch.randint(3, (40, 10), generator=seeded(0))
KNOWN = torch.arange(10) < 4


def draw(given_mask=None, name="absorbing", data=DATA):
    return Paths.draw(kernel(name, 3), data, generator=seeded(1), given_mask=given_mask)


@pytest.mark.parametrize("name", KERNELS)
def test_observed_sites_are_clean_at_every_time_and_never_move(name):
    paths = draw(KNOWN, name)
    for t in (1.0, 0.4, 0.01):
        x = paths(t)
        assert torch.equal(x[:, KNOWN], DATA[:, KNOWN])
        assert not paths.movable(x)[:, KNOWN].any()
        assert torch.equal(paths(t), x)
    assert (paths(1.0)[:, ~KNOWN] != DATA[:, ~KNOWN]).any()
    assert torch.equal(paths(0.0), DATA)
    assert paths.sites == 6


@pytest.mark.parametrize("name", KERNELS)
def test_free_sites_follow_the_forward_path(name):
    """The mask changes which sites are noised and nothing else."""
    x = draw(name=name)(0.5)
    masked = draw(KNOWN, name)(0.5)
    assert torch.equal(masked[:, ~KNOWN], x[:, ~KNOWN])
    assert torch.equal(draw(name=name).movable(x), kernel(name, 3).movable(x))


def test_exactly_n_sites_are_masked_and_in_one_order():
    rows = torch.rand(40, 10, generator=seeded(3)).argsort(-1) < 4
    for known in (None, KNOWN, rows):
        paths = draw(known)
        before = torch.ones_like(DATA, dtype=torch.bool)
        for n in range(paths.sites, -1, -1):
            x = paths.with_masked(n)
            masked = x == MASK
            assert (masked.sum(-1) == n).all()
            assert (masked <= before).all()
            assert torch.equal(x[~masked], DATA[~masked])
            assert known is None or not (masked & known).any()
            before = masked


def test_every_site_is_as_likely_to_be_masked():
    data = torch.zeros(4000, 4, dtype=torch.int64)
    share = (draw(data=data).with_masked(1) == MASK).double().mean(0)
    torch.testing.assert_close(
        share, torch.full((4,), 0.25, dtype=torch.float64), atol=0.03, rtol=0
    )


def test_errors():
    counted = (
        f"or, if {MASK} is a symbol of the data, .* vocab_size={MASK + 2}, mask_id={MASK + 1}$"
    )
    with pytest.raises(ValueError, match=rf"data holds MASK \(token {MASK}\), .*{counted}"):
        draw(data=torch.full((2, 3), MASK))
    with pytest.raises(ValueError, match=r"given_mask has shape \[9\], data \[40, 10\]"):
        draw(torch.ones(9, dtype=torch.bool))
    with pytest.raises(ValueError, match="without a free site"):
        draw(torch.ones(10, dtype=torch.bool))
    uneven = torch.zeros_like(DATA, dtype=torch.bool)
    uneven[0, 0] = True
    with pytest.raises(ValueError, match="9 to 10 free sites"):
        _ = draw(uneven).sites


def test_mask_need_not_be_the_last_symbol():
    forward = Absorbing(vocab_size=4, noise=LogLinear(), mask_id=1)
    data = torch.tensor([[0, 2, 3]])
    paths = Paths.draw(forward, data, generator=seeded(0))
    assert torch.equal(paths.with_masked(3), torch.full((1, 3), 1))

"""Selected sites, remembered for the mask that was asked for last."""

import weakref

import torch

from helpers import seeded
from jumpsteps.core import site_mask as selection
from jumpsteps.core.site_mask import rows_of, selected, sites_of

WHERE = torch.rand(4, 6, generator=seeded(0)) < 0.5
X = torch.randn(4, 6, 3, generator=seeded(1))


def test_sites_rows_and_values_are_those_of_a_mask():
    where = WHERE.clone()
    assert torch.equal(
        sites_of(where), torch.tensor([i for i, on in enumerate(where.flatten().tolist()) if on])
    )
    assert torch.equal(rows_of(where), where.nonzero()[:, 0])
    assert torch.equal(selected(X, where), X[where])
    assert torch.equal(selected(X[..., 0], where), X[..., 0][where])
    assert selected(X, None) is X
    assert len(selected(X, torch.zeros_like(where))) == 0


def test_a_mask_that_is_written_to_is_looked_at_again():
    where = WHERE.clone()
    kept = sites_of(where)
    assert sites_of(where) is kept
    where[0] = True
    assert torch.equal(sites_of(where), where.flatten().nonzero()[:, 0])
    where &= torch.arange(6) < 2
    assert torch.equal(sites_of(where), where.flatten().nonzero()[:, 0])


def test_another_mask_in_the_same_memory_is_another_mask():
    where = WHERE.clone()
    for _ in range(20):
        other = where.clone()
        other[0] = ~other[0]
        assert torch.equal(sites_of(other), other.flatten().nonzero()[:, 0])
        del other
    assert torch.equal(sites_of(where[:2]), where[:2].flatten().nonzero()[:, 0])
    assert torch.equal(sites_of(where[2:]), where[2:].flatten().nonzero()[:, 0])


def test_masks_of_inference_mode_are_not_evaluated():
    with torch.inference_mode():
        where = WHERE.clone()
        assert torch.equal(sites_of(where), where.flatten().nonzero()[:, 0])
        where[0] = True
        assert torch.equal(sites_of(where), where.flatten().nonzero()[:, 0])
    assert selection.last is None or selection.last[0]() is not where


def test_a_thread_that_asks_in_between_changes_nothing(monkeypatch):
    """Another mask is asked for while the sites of the first are found but not yet remembered."""
    one, other = WHERE.clone(), ~WHERE
    plain = weakref.ref

    def interrupted(mask):
        monkeypatch.setattr(selection.weakref, "ref", plain)
        assert torch.equal(sites_of(other), other.flatten().nonzero()[:, 0])
        return plain(mask)

    monkeypatch.setattr(selection.weakref, "ref", interrupted)
    for _ in range(2):
        assert torch.equal(sites_of(one), one.flatten().nonzero()[:, 0])
    assert torch.equal(sites_of(other), other.flatten().nonzero()[:, 0])

"""Masks of sites with their indices."""

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.core.site_mask import SiteMask, selected

WHERE = torch.rand(4, 6, generator=seeded(0)) < 0.5
X = torch.randn(4, 6, 3, generator=seeded(1))


def test_sites_rows_and_values_are_those_of_a_mask():
    where = SiteMask(WHERE)
    expected = [i for i, on in enumerate(WHERE.flatten().tolist()) if on]
    assert where.sites.tolist() == expected
    assert len(where) == len(expected)
    assert torch.equal(where.rows, WHERE.nonzero()[:, 0])
    assert torch.equal(where.select(X), X[WHERE])
    assert torch.equal(where.select(X[..., 0]), X[..., 0][WHERE])


def test_selected_takes_either_form_and_none():
    for where in (WHERE, SiteMask(WHERE)):
        assert torch.equal(selected(X, where), X[WHERE])
    assert selected(X, None) is X
    assert len(selected(X, torch.zeros_like(WHERE))) == 0


def test_everywhere_is_the_mask_of_all_sites():
    tokens, drawn = WHERE.long(), torch.arange(24)
    every, same = SiteMask.everywhere(tokens), SiteMask(torch.ones_like(WHERE))
    assert every.all
    assert not SiteMask(WHERE).all
    assert torch.equal(every.mask, same.mask)
    assert torch.equal(every.sites, same.sites)
    assert torch.equal(every.select(X), X.flatten(0, 1))
    assert torch.equal(every.put(tokens, drawn), drawn.reshape(4, 6))
    some = SiteMask(WHERE)
    expected = tokens.masked_scatter(WHERE, drawn[: len(some)])
    assert torch.equal(some.put(tokens, drawn[: len(some)]), expected)


def test_indices_are_found_once(monkeypatch):
    where = SiteMask(WHERE)
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    assert SiteMask.of(where) is where
    assert SiteMask.of(None) is None
    assert torch.equal(where.select(X), X[WHERE])
    assert sum(len(piece) for piece in where.split(2)) == len(where)


@pytest.mark.parametrize("most", [1, 3, 100])
def test_pieces_are_the_sites_in_order(most):
    where = SiteMask(WHERE)
    pieces = where.split(most)
    assert torch.equal(torch.cat([piece.sites for piece in pieces]), where.sites)
    for piece in pieces:
        assert len(piece) <= most
        assert torch.equal(SiteMask(piece.mask).sites, piece.sites)
    assert [len(piece) for piece in SiteMask(torch.zeros_like(WHERE)).split(most)] == [0]


@pytest.mark.parametrize("mask", [WHERE.int(), WHERE[0], X])
def test_what_is_no_mask_of_a_batch_is_refused(mask):
    with pytest.raises(ValueError, match=r"a mask of sites must be bool \[B, L\], got torch"):
        SiteMask(mask)


@pytest.mark.parametrize("seed", range(4))
def test_a_known_number_of_sites_is_found_without_a_search(seed, monkeypatch):
    mask = torch.rand(3, 5, generator=seeded(seed)) < (0.0, 0.3, 0.8, 1.0)[seed]
    sites = mask.flatten().nonzero()[:, 0]
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    where = SiteMask.of_count(mask, len(sites))
    assert torch.equal(where.sites, sites)
    assert torch.equal(where.mask, mask)

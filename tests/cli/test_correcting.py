"""Correctors by flags, and the race of plans."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jumpsteps import BlockedGibbs, CountSchedule, Golden, Redraw, Spread, Tweedie, load
from jumpsteps.cli import correcting
from jumpsteps.cli.correcting import corrector_plans, steps_without, with_corrector
from jumpsteps.cli.flags import parse
from jumpsteps.cli.options import CorrectorOptions
from jumpsteps.core.distributed import ALONE

CPU = torch.device("cpu")


def test_what_is_left_for_the_steps():
    assert steps_without(CorrectorOptions(None, None), 1) == 1
    assert steps_without(CorrectorOptions(3, None), 4) == 1
    with pytest.raises(ValueError, match="--corrections 4 leaves no model call of --nfe 4"):
        steps_without(CorrectorOptions(4, None), 4)


def test_a_sampler_is_followed_by_corrections():
    sampler = Tweedie()
    assert with_corrector(sampler, CorrectorOptions(None, None)) is sampler
    for share, used in ((None, 0.25), (0.5, 0.5)):
        found = with_corrector(sampler, CorrectorOptions(2, share))
        assert found == BlockedGibbs(sampler, (Redraw(2, used),))


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize(
    ("flags", "order", "samples"),
    [("", Golden(), 128), ("--order spread --race 32 --race-calls 99", Spread(), 32)],
)
def test_plans_are_made_on_a_third_of_the_data(
    tmp_path, monkeypatch, capsys, rows, flags, order, samples
):
    """Observed sites go with their sequences."""
    masks = np.arange(4) < np.arange(1, 4)[:, None]
    masks = masks[0] if rows == 1 else masks
    np.savez(tmp_path / "g.npz", tokens=np.zeros_like(masks, dtype=int), mask=masks)
    plans, found = {"steps alone": {2: CountSchedule([4])}}, {}

    def candidates(reverse, tokens, nfe, **options):
        found.update(searched=(tokens, nfe, options))
        return plans

    def raced(reverse, tokens, schedules, **options):
        found.update(raced=(tokens, schedules, options))
        return SimpleNamespace(schedules=schedules["steps alone"])

    monkeypatch.setattr(correcting, "corrector_candidates", candidates)
    monkeypatch.setattr(correcting, "race", raced)
    flags = f"--sequences 9 --corrector auto {flags}"
    flags += f" --given {tmp_path / 'g.npz'}" if rows else ""
    options = parse(f"optimize toy-absorbing --nfe 2 {flags}".split())
    model = load("toy-absorbing")
    assert corrector_plans(options, model, CPU, ALONE) is plans["steps alone"]
    assert "steps alone" not in capsys.readouterr().err
    tokens, nfe, asked = found["searched"]
    assert (tokens.shape, nfe) == ((9, 4), (2,))
    others, schedules, of_race = found["raced"]
    assert others.shape == (18, 4)
    assert schedules is plans
    whole = None if rows == 0 else torch.from_numpy(masks)
    first, second = asked.pop("given_mask"), of_race.pop("given_mask")
    if rows == 3:
        assert torch.equal(first, whole[torch.arange(9) % 3])
        assert torch.equal(second, whole[torch.arange(9, 27) % 3])
    else:
        for mask in (first, second):
            assert mask is None if whole is None else torch.equal(mask, whole)
    common = {"generator": asked["generator"], "progress": True, "workers": ALONE}
    assert asked.pop("about").model == "toy-absorbing"
    assert asked == {"order": order, **common}
    assert of_race == {
        "samples": samples,
        "max_calls": 99 if "calls" in flags else None,
        "similarity": model.task.similarity,
        "plain": ("steps alone",),
        **common,
    }


@pytest.mark.parametrize("rows", [23, 24])
def test_eight_sequences_are_the_fewest(tmp_path, monkeypatch, rows):
    np.save(tmp_path / "d.npy", np.arange(4 * rows).reshape(rows, 4) % 4)
    data = f"--data {tmp_path / 'd.npy'}"
    options = parse(f"optimize toy-absorbing --nfe 2 --corrector auto {data}".split())
    searched = []

    def candidates(reverse, tokens, nfe, **options):
        searched.append(len(tokens))
        return {}

    monkeypatch.setattr(correcting, "corrector_candidates", candidates)
    monkeypatch.setattr(correcting, "race", lambda *args, **options: SimpleNamespace(schedules={}))
    if rows < 24:
        with pytest.raises(ValueError, match="24 sequences of data or more, got 23; pass more"):
            corrector_plans(options, load("toy-absorbing"), CPU, ALONE)
    else:
        corrector_plans(options, load("toy-absorbing"), CPU, ALONE)
        assert searched == [8]

"""The Python in the README and the docs runs as printed, on stand-ins that make it quick."""

import math
import re
from ast import literal_eval
from pathlib import Path

import pytest
import torch

import jumpsteps
from jumpsteps.schedules.fixed import uniform

ROOT = Path(__file__).parents[1]


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def test_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("README.md")
    exec(block.replace('load("countdown")', 'load("countdown-exact")'), {})
    counts, shape, ours, plain = capsys.readouterr().out.splitlines()
    assert sum(literal_eval(counts)) == 256
    assert shape == "torch.Size([16, 256]) 8 8"
    ours, plain = (float(re.search(r"([\d.]+)%", line)[1]) for line in (ours, plain))
    assert ours < 0.5 < 7 < plain
    assert (tmp_path / "schedules.json").exists()


def test_a_model_of_your_own_runs():
    own, given, _, _, _, _, _ = blocks("docs/models.md")
    names = {
        "network": lambda x: torch.zeros(*x.shape, 6),
        "tokens": torch.randint(5, (4, 7)).numpy(),
        "prompt": torch.tensor([1, 2, 0, 0, 0, 0, 0]),
        "known": torch.tensor([True, True, False, False, False, False, False]),
    }
    small = own.replace("50258", "6").replace("50257", "5")
    exec(small, names)
    assert names["samples"].shape == (4, 7)
    exec(given.replace("simulate(reverse", "run = simulate(reverse"), names)
    assert (names["run"].samples[:, :2] == torch.tensor([1, 2])).all()


def test_models_conditioned_on_time_of_your_own_run():
    _, _, conditioned, score, _, _, _ = blocks("docs/models.md")
    levels = []
    probs = torch.rand(28).index_fill(0, torch.tensor([27]), 0)
    probs = probs / probs.sum()

    def network(x, level):
        levels.append(level)
        output = probs.log() + (0 if symbols == 27 else math.log(27))
        return output[:symbols].expand(*x.shape, symbols)

    names = {"torch": torch, "network": network, **vars(jumpsteps)}
    for block, symbols in ((conditioned, 27), (score, 28)):
        exec(block, names)
        reverse = names["reverse"]
        x = torch.full((3, 5), symbols - 1)
        for t in (0.3, torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)):
            w = reverse.leave_one_out(x, t)
            assert torch.allclose(w, probs[:symbols].expand_as(w), atol=1e-6)
            expected = reverse.forward.noise.total(t).float().expand(3)
            assert torch.allclose(levels[-1], expected)
        run = jumpsteps.simulate(
            reverse, jumpsteps.Tweedie(), uniform(3), (2, 5), generator=torch.Generator()
        )
        assert (run.samples < 27).all()


def test_the_interfaces_that_people_know_run():
    pytest.importorskip("diffusers")
    *_, scheduler, loop, by_block = blocks("docs/models.md")
    model, generator = jumpsteps.load("countdown-exact"), torch.Generator().manual_seed(0)
    names = {"model": model, "schedules": {8: uniform(8)}, "generator": generator}
    exec(scheduler, names)
    assert names["x"].shape == (4, 256)
    assert (names["x"] < 32).all()

    class Answer:
        def __init__(self, x):
            self.logits = torch.randn(*x.shape, 5, generator=generator)

    prompt = torch.tensor([[1, 2]])
    names = {
        "torch": torch,
        "prompt": prompt,
        "length": 20,
        "MASK": 9,
        "network": Answer,
        "schedules": {8: uniform(8)},
    }
    exec(loop, names)
    assert names["x"].shape == (1, 22)
    assert torch.equal(names["x"][:, :2], prompt)
    assert (names["x"] < 5).all()
    order = jumpsteps.Blocks(8)
    names["schedules"] = {64: jumpsteps.CountSchedule([3, 5, 1, 7], order=order)}
    names["x"] = torch.cat([prompt, torch.full((1, 20), 9)], 1)
    exec(by_block, names)
    assert torch.equal(names["x"][:, :2], prompt)
    assert (names["x"] < 5).all()


@pytest.mark.parametrize(
    "page", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert target.startswith("http") or ((ROOT / page).parent / target).exists(), target


def test_every_public_name_is_there_and_documented():
    for name in jumpsteps.__all__:
        thing = getattr(jumpsteps, name)
        assert name == "__version__" or thing.__doc__, name


def test_a_sampler_of_your_own_runs():
    _, block = blocks("docs/samplers.md")
    names = {}
    exec(block, names)
    model = jumpsteps.load("countdown-exact")
    run = jumpsteps.simulate(
        model.reverse,
        names["Renoise"](),
        uniform(2),
        (2, 16),
        generator=torch.Generator().manual_seed(0),
    )
    assert run.nfe == 2
    assert (run.samples < 32).all()


def test_the_evidence_page_runs(capsys):
    (block,) = blocks("docs/evidence.md")
    exec(block, {})
    assert re.match(r"few-step NLL [\d.]+ .* at most [\d.]+ \(95%\)\n", capsys.readouterr().out)

"""The Python of docs/samplers.md and docs/orders.md runs, and the recipe's two methods agree."""

import re
from pathlib import Path

import jumpsteps
from builders.samplers import ALL_KERNELS, enumerable, posterior_reverse, step_p
from builders.statistics import LEVEL, seeded
from jumpsteps import Sampler
from jumpsteps.schedules.schedule import Step

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def recipe() -> Sampler:
    names: dict = {}
    exec(blocks("samplers.md")[1], names)
    return names["Renoise"]()


def test_the_recipe_has_the_distribution_that_it_says() -> None:
    sampler, step = recipe(), Step(0.5, 0.1)
    for name in ALL_KERNELS:
        truth = enumerable(name)
        reverse = posterior_reverse(truth)
        matrix = sampler.transition_matrix(reverse, truth.states, step)
        p = step_p(truth, reverse, sampler, step, matrix, n=100_000, generator=seeded(4))
        assert p > LEVEL


def test_the_examples_run() -> None:
    model = jumpsteps.load("countdown-exact")
    names = {"model": model, "data": model.task.sample_data(4, seeded(0)), "generator": seeded(1)}
    exec(blocks("samplers.md")[0].replace('load("countdown")', 'load("countdown-exact")'), names)
    assert names["run"].nfe == 16
    whole, *_, within_blocks = blocks("orders.md")
    exec(whole, names)
    assert names["run"].nfe == 8
    assert set(names["found"]) == {4, 8}
    exec(within_blocks, names)
    assert [sum(counts) for counts in names["found"][64].blocks] == 8 * [32]

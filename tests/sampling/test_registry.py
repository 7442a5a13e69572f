"""The registry is the single list of samplers: of the flat API, the command line and the docs."""

import json

import jumpsteps
import jumpsteps.cli.named
import sampler_table
from builders.samplers import SAMPLERS
from jumpsteps.cli import flags
from jumpsteps.sampling import registry


def test_the_tests_run_over_every_sampler() -> None:
    assert {type(sampler) for sampler in SAMPLERS} == set(registry.SAMPLER_CLASSES)


def test_the_flat_api_and_the_command_line_have_every_sampler() -> None:
    assert flags.SAMPLERS is jumpsteps.cli.named.SAMPLERS is jumpsteps.SAMPLERS is registry.SAMPLERS
    for kind in registry.SAMPLER_CLASSES:
        assert getattr(jumpsteps, kind.__name__) is kind
        assert kind.__name__ in jumpsteps.__all__
    named = [sampler.name for kind in registry.SAMPLER_CLASSES for sampler in kind.variants()]
    assert list(registry.SAMPLERS) == named, "two samplers have one name"


def test_the_table_of_the_docs_is_the_registry() -> None:
    """After a change: python experiments/sampler_table.py && make tables."""
    written = json.loads(sampler_table.OUT.read_text(encoding="utf-8"))
    assert written["tables"]["samplers"] == sampler_table.list_of_samplers()


def test_every_sampler_says_where_it_is_from() -> None:
    for sampler in registry.SAMPLERS.values():
        assert sampler.source, sampler.name
        assert sampler.calls_in_words, sampler.name

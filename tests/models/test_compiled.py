"""Compiled trunks: the same numbers and the same distribution, for batches of any size."""

import shutil

import pytest
import torch
from torch import nn

import jumpsteps
from builders.statistics import LEVEL, seeded, two_sample_p
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.formats.native import build
from jumpsteps.models.loaded import LoadedModel, cast_and_compile
from jumpsteps.models.networks import compiled
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.models.networks.transformer import (
    Transformer,
    TransformerConfig,
    TransformerPosterior,
)
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.ancestral import Ancestral
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.schedules.fixed import uniform

L = 4


@pytest.fixture
def traced(monkeypatch):
    """``Module.compile`` without code generation; yields the shapes that were traced."""
    shapes = []
    plain = nn.Module.compile

    def backend(graph, inputs):
        shapes.append(
            next(
                tuple(value.shape)
                for value in inputs
                if isinstance(value, torch.Tensor) and value.ndim == 3
            )
        )
        return graph.forward

    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: plain(self, **options, backend=backend)
    )
    torch.compiler.reset()
    yield shapes
    torch.compiler.reset()


def networks(output="posterior", kernel="absorbing"):
    """Two networks with the same weights, whose output at a site depends on the other sites."""
    forward = (
        Absorbing(vocab_size=4, noise=LogLinear())
        if kernel == "absorbing"
        else Uniform(vocab_size=4, noise=LogLinear())
    )
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        network, reverse = build(DiTConfig(4, 8, 2, 2, cond_dim=6), forward, output)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(0.6 * torch.randn(parameter.shape))
            for block in network.blocks:
                block.attn_qkv.weight.mul_(2)
                block.adaLN_modulation.bias[16:24] = 2  # what attention adds counts
            network.output_layer.linear.weight.normal_()
            network.output_layer.norm_final.weight.fill_(1)
            for parameter in (
                network.output_layer.linear.bias,
                *network.output_layer.adaLN_modulation.parameters(),
            ):
                parameter.zero_()
        network.eval()
        made.append(LoadedModel("random", reverse, L, "", None))
    return made


def test_batches_are_padded_to_a_size_that_is_at_most_twice_as_large():
    shapes = compiled.CompiledShapes()
    asked = [(8, 5), (7, 5), (4, 5), (3, 5), (2, 5), (1, 5), (8, 6), (9, 5)]
    assert [shapes.batch_size(*shape) for shape in asked] == [8, 8, 8, 3, 3, 1, 8, 9]


@pytest.mark.slow
@pytest.mark.parametrize("output", ["posterior", "log-score"])
@pytest.mark.parametrize("kernel", ["absorbing", "uniform"])
@torch.no_grad()
def test_a_compiled_trunk_gives_the_same_numbers_at_every_batch_size(traced, output, kernel):
    plain, fast = networks(output, kernel)
    cast_and_compile(fast, compile=True)
    for batch in (6, 5, 3, 6):
        x = torch.randint(4, (batch, L), generator=seeded(batch))
        where = torch.rand(batch, L, generator=seeded(9)) < 0.5
        for t in (0.4, torch.linspace(0.1, 0.9, batch, dtype=torch.float64)):
            for sites in (None, where):
                torch.testing.assert_close(
                    fast.reverse.model(x, t, sites),
                    plain.reverse.model(x, t, sites),
                    rtol=1e-5,
                    atol=1e-5,
                )
        kept = fast.reverse.model.evaluate(x, 0.4, where)
        torch.testing.assert_close(
            kept(x, 0.4, where), plain.reverse.model(x, 0.4, where), rtol=1e-5, atol=1e-5
        )
    assert {shape[0] for shape in traced if shape[1] == L} == {6}  # smaller batches were padded


@pytest.mark.slow
@torch.no_grad()
def test_a_sampler_that_leaves_sequences_out_compiles_few_times(traced):
    plain, fast = networks()
    cast_and_compile(fast, compile=True)
    runs = [
        simulate(model.reverse, Ancestral(), uniform(30), (16, L), generator=seeded(1))
        for model in (plain, fast)
    ]
    assert torch.equal(runs[0].samples, runs[1].samples)
    assert {shape[0] for shape in traced if shape[1] == L} <= {16, 8, 7, 6, 5, 4, 3, 2, 1}
    assert len({shape[0] for shape in traced if shape[1] == L}) <= 5


def distribution_of_samples(reverse, seed):
    samples = simulate(reverse, Tweedie(), uniform(2), (40_000, L), generator=seeded(seed)).samples
    return (samples * 3 ** torch.arange(L)).sum(-1)


def asked_for_all_sites(model):
    """The same reverse process, whose network computes all sites and then selects."""
    network = model.reverse.model
    return PosteriorReverse(model.reverse.forward, lambda x, t, where=None: network(x, t)[where])


@pytest.mark.slow
@torch.no_grad()
def test_the_distribution_is_the_same_with_the_head_on_some_sites_and_on_all():
    """Samples of four sites, two steps."""
    plain, _ = networks()
    assert (
        two_sample_p(
            distribution_of_samples(plain.reverse, 0),
            distribution_of_samples(asked_for_all_sites(plain), 1),
        )
        > LEVEL
    )


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # torch's own, when its compiler is first imported
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)
@torch.no_grad()
def test_the_distribution_is_the_same_compiled_and_not():
    plain, fast = networks()
    cast_and_compile(fast, compile=True)
    assert (
        two_sample_p(
            distribution_of_samples(fast.reverse, 0),
            distribution_of_samples(asked_for_all_sites(plain), 1),
        )
        > LEVEL
    )


@torch.no_grad()
def test_a_transformer_is_compiled_below_its_output_layers(traced):
    config = TransformerConfig(
        vocab_size=4,
        length=L,
        hidden_size=8,
        n_layers=2,
        n_heads=2,
        feedforward_size=16,
        time_dim=8,
    )
    torch.manual_seed(0)
    network = Transformer(config).eval()
    model = TransformerPosterior(network)
    x, where = (
        torch.randint(4, (5, L), generator=seeded(0)),
        torch.rand(5, L, generator=seeded(1)) < 0.5,
    )
    before = model(x, 0.3, where)
    forward = Uniform(vocab_size=4, noise=LogLinear())
    cast_and_compile(
        LoadedModel("random", PosteriorReverse(forward, model), L, "", None), compile=True
    )
    torch.testing.assert_close(model(x, 0.3, where), before, rtol=1e-5, atol=1e-5)
    assert traced


@torch.no_grad()
def test_bfloat16_keeps_rotary_frequencies_and_gives_float32():
    plain, small = networks()
    frequencies = small.reverse.model.network.rotary_emb.inv_freq.clone()
    cast_and_compile(small, dtype=torch.bfloat16)
    assert torch.equal(small.reverse.model.network.rotary_emb.inv_freq, frequencies)
    assert {p.dtype for p in small.reverse.model.parameters()} == {torch.bfloat16}
    x = torch.full((2, L), 3)
    out = small.reverse.model(x, 0.5)
    assert out.dtype == torch.float32
    difference = (out[..., :3] - plain.reverse.model(x, 0.5)[..., :3]).abs()
    assert 0 < difference.max() < 0.2


@pytest.mark.parametrize("options", [{"dtype": torch.bfloat16}, {"compile": True}])
def test_an_exact_model_is_not_tuned(options):
    with pytest.raises(
        ValueError,
        match="countdown-exact is an exact distribution, not a network; leave out dtype",
    ):
        jumpsteps.load("countdown-exact", **options)


def test_a_network_that_has_no_trunk_to_compile_is_refused():
    class Plain(nn.Module):
        def forward(self, x, t, where=None):
            return x

    model = LoadedModel(
        "mine", PosteriorReverse(Uniform(vocab_size=3, noise=LogLinear()), Plain()), 2, "", None
    )
    with pytest.raises(ValueError, match="Plain cannot be compiled; leave out compile"):
        cast_and_compile(model, compile=True)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("output", ["posterior", "log-score"])
@pytest.mark.parametrize("kernel", ["absorbing", "uniform"])
@torch.no_grad()
def test_a_recorded_trunk_gives_the_same_numbers(output, kernel):
    plain, fast = networks(output, kernel)
    for model in (plain, fast):
        model.reverse.model.to("cuda")
    cast_and_compile(fast, compile=True)
    generator = torch.Generator("cuda").manual_seed(0)
    where = torch.rand(6, L, generator=generator, device="cuda") < 0.5
    x = torch.randint(4, (6, L), generator=generator, device="cuda")
    kept = fast.reverse.model.evaluate(x, 0.4, where)
    for batch in (6, 5, 3, 6):
        for t in (0.7, torch.linspace(0.1, 0.9, batch, dtype=torch.float64, device="cuda")):
            other = torch.randint(4, (batch, L), generator=generator, device="cuda")
            for sites in (None, where[:batch]):
                expected = plain.reverse.model(other, t, sites)
                torch.testing.assert_close(
                    fast.reverse.model(other, t, sites), expected, rtol=1e-3, atol=1e-3
                )
    # What was remembered outlives the replays.
    torch.testing.assert_close(
        kept(x, 0.4, where), plain.reverse.model(x, 0.4, where), rtol=1e-3, atol=1e-3
    )


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_distribution_is_the_same_on_a_gpu():
    plain, fast = networks()
    for model in (plain, fast):
        model.reverse.model.to("cuda")
    cast_and_compile(fast, compile=True)
    codes = []
    for seed, reverse in enumerate((fast.reverse, asked_for_all_sites(plain))):
        generator = torch.Generator("cuda").manual_seed(seed)
        samples = simulate(
            reverse, Tweedie(), uniform(2), (200_000, L), generator=generator
        ).samples.cpu()
        codes.append((samples * 3 ** torch.arange(L)).sum(-1))
    assert two_sample_p(*codes) > LEVEL


def test_a_batch_is_padded_to_the_smallest_size_that_fits():
    """By copies of its first row; a level for all rows stays one, and nothing fits another L."""
    shapes, seen = compiled.CompiledShapes(), []

    def layers(x, level):
        seen.append((x.clone(), level))
        return 2 * x

    for batch in (4, 6):
        assert shapes.batch_size(batch, L) == batch
    assert [shapes.batch_size(batch, L) for batch in (2, 3, 5, 6)] == [4, 4, 6, 6]
    assert shapes.batch_size(1, L) == 1  # Four would be more than twice as many.
    assert shapes.batch_size(3, L + 1) == 3
    x, level = torch.arange(3 * L).view(3, L), torch.tensor([0.5])
    assert torch.equal(shapes.run(layers, x, level), 2 * x)
    assert torch.equal(shapes.run(layers, x, torch.tensor([0.1, 0.2, 0.3])), 2 * x)
    (first, one), (second, each) = seen
    assert torch.equal(first, x[[0, 1, 2, 0]])
    assert torch.equal(first, second)
    assert one is level
    assert each.tolist() == torch.tensor([0.1, 0.2, 0.3, 0.1]).tolist()
    assert compiled.padded(x, 3) is x

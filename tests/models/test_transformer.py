"""The transformer against a plain evaluation of the published architecture."""

import pytest
import torch

from builders.statistics import seeded
from builders.tauldr_checkpoints import TRANSFORMER_CONFIG
from builders.tauldr_reference import PlainTransformer, random_weights
from jumpsteps.models.networks.transformer import (
    Transformer,
    TransformerConfig,
    TransformerPosterior,
)

PLAIN = PlainTransformer()
X = torch.randint(5, (3, 6), generator=seeded(1))
T = torch.tensor([0.05, 0.4, 1.0])


def changed(**change):
    return TransformerConfig(**(vars(TRANSFORMER_CONFIG) | change))


def transformer(ordinal=False):
    network = Transformer(changed(ordinal=ordinal))
    network.load_state_dict(random_weights(PLAIN.layout(ordinal)))
    return network.eval()


@pytest.mark.parametrize("ordinal", [False, True])
def test_parameters_have_the_published_names_shapes_and_order(ordinal):
    network, layout = Transformer(changed(ordinal=ordinal)), PLAIN.layout(ordinal)
    assert [(name, list(p.shape)) for name, p in network.named_parameters()] == list(layout.items())
    assert network.state_dict().keys() == layout.keys()


@torch.no_grad()
@pytest.mark.parametrize("ordinal", [False, True])
@pytest.mark.parametrize("length", [6, 4])
def test_the_network_equals_the_plain_evaluation(ordinal, length):
    network, x = transformer(ordinal), X[:, :length]
    expected = PLAIN(random_weights(PLAIN.layout(ordinal)), x, T)
    assert expected.std(0).min() > 1e-3
    torch.testing.assert_close(network(x, T), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network(x, T[1:2])[1], expected[1], atol=1e-5, rtol=1e-5)


def test_with_gradients_it_is_the_same_network():
    expected = PLAIN(random_weights(PLAIN.layout()), X, T)
    torch.testing.assert_close(transformer()(X, T), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_last_layers_run_on_the_sites_asked_for():
    network = transformer()
    where = torch.tensor([[1, 0, 0, 1, 0, 0], [0] * 6, [0, 1, 1, 0, 0, 1]], dtype=torch.bool)
    rows = []
    for layer in (network.output_resid_layers[0], network.output_linear):
        layer.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[:-1].numel()))
    full, part = network(X, T), network(X, T, where)
    assert rows == [18, 18, 5, 5]
    torch.testing.assert_close(part, full[where])
    torch.testing.assert_close(network(X, T[:1], where), network(X, T[:1])[where])


@torch.no_grad()
def test_posterior_reading():
    weights = random_weights(PLAIN.layout())
    where = torch.rand(3, 6, generator=seeded(2)) < 0.5
    model = TransformerPosterior(transformer())
    for t in (0.4, T):
        times = torch.as_tensor(t).expand(3)
        expected = PLAIN(weights, X, times).exp()
        expected = (expected / expected.sum(-1, keepdim=True)).log()
        out = model(X, t)
        assert out.dtype == torch.float32
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(model(X, t, where), expected[where], atol=1e-5, rtol=0)
    timeless = TransformerPosterior(transformer(), time_conditioned=False)
    assert torch.equal(timeless(X, T), timeless(X, 1.0))
    torch.testing.assert_close(timeless(X, T), model(X, 0.0))
    assert (timeless(X, T) - model(X, T)).abs().max() > 1e-2


def test_a_fresh_network_trains_from_a_modulation_of_about_one():
    torch.manual_seed(0)
    network = Transformer(TRANSFORMER_CONFIG)
    scale, shift = network.encoder_layers[0].film_from_temb(torch.zeros(28)).chunk(2)
    assert torch.equal(scale, torch.ones(8))
    assert torch.equal(shift, torch.zeros(8))
    model, optimizer = (
        TransformerPosterior(network),
        torch.optim.Adam(network.parameters(), lr=1e-2),
    )
    losses = []
    for step in range(60):
        x = torch.arange(6).remainder(5).expand(16, -1)
        noisy = torch.where(torch.rand(x.shape, generator=seeded(step)) < 0.5, x, (x + 2) % 5)
        loss = -model(noisy, 0.5).gather(-1, x[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_acts_in_training_only():
    network = Transformer(changed(dropout=0.5)).eval()
    assert torch.equal(network(X, T), network(X, T))
    network.train()
    assert not torch.equal(network(X, T), network(X, T))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"n_heads": 3},
            "hidden_size must be even and a multiple of n_heads, got hidden_size=8, n_heads=3",
        ),
        ({"hidden_size": 9, "n_heads": 3}, "got hidden_size=9, n_heads=3"),
        ({"time_dim": 2}, "time_dim must be at least 4, got 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        changed(**change)


def test_a_sequence_that_is_too_long_is_refused():
    with pytest.raises(
        ValueError, match="a sequence has 7 tokens, the transformer was built for 6; shorten it"
    ):
        transformer()(torch.zeros(1, 7, dtype=torch.int64), T[:1])

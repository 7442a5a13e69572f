"""The DiT against a plain evaluation of the paper's description, and its two outputs."""

import math
from dataclasses import replace

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.core.site_mask import SiteMask
from jumpsteps.denoiser.micro_batches import MicroBatches
from jumpsteps.denoiser.parameterisations import LogScoreReverse, PosteriorReverse
from jumpsteps.models.networks.dit import DiT, DiTConfig, LogScoreNetwork, PosteriorNetwork
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear
from jumpsteps.process.uniform import Uniform

CONFIG = DiTConfig(vocab_size=11, hidden_size=24, n_blocks=2, n_heads=3, cond_dim=10)


@pytest.fixture
def network():
    net = DiT(CONFIG)
    generator = seeded(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return net.double().eval()


def norm(x, weight):
    return (
        (x - x.mean(-1, keepdim=True))
        / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-5)
        * weight
    )


def reference(w, x, sigma):
    """Token by token and head by head."""
    d, heads = CONFIG.hidden_size, CONFIG.n_heads
    dim, length = d // heads, len(x)
    half = 128
    angles = [sigma * math.exp(-math.log(10000) * i / half) for i in range(half)]
    features = torch.tensor(
        [math.cos(a) for a in angles] + [math.sin(a) for a in angles], dtype=torch.float64
    )
    hidden = w["sigma_map.mlp.0.weight"] @ features + w["sigma_map.mlp.0.bias"]
    c = w["sigma_map.mlp.2.weight"] @ (hidden * torch.sigmoid(hidden)) + w["sigma_map.mlp.2.bias"]
    c = c * torch.sigmoid(c)
    h = w["vocab_embed.embedding"][x]
    for b in range(CONFIG.n_blocks):
        p = f"blocks.{b}."
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            w[p + "adaLN_modulation.weight"] @ c + w[p + "adaLN_modulation.bias"]
        ).split(d)
        qkv = (norm(h, w[p + "norm1.weight"]) * (1 + scale1) + shift1) @ w[p + "attn_qkv.weight"].T
        q, k, v = qkv.split(d, -1)
        out = torch.zeros(length, d, dtype=torch.float64)
        for head in range(heads):
            part = slice(head * dim, (head + 1) * dim)
            turned = []
            for m in (q[:, part], k[:, part]):
                rows = m.clone()
                for pos in range(length):
                    for i in range(dim // 2):
                        angle = pos / 10000 ** (2 * i / dim)
                        a, z = m[pos, i], m[pos, i + dim // 2]
                        rows[pos, i] = a * math.cos(angle) - z * math.sin(angle)
                        rows[pos, i + dim // 2] = z * math.cos(angle) + a * math.sin(angle)
                turned.append(rows)
            attention = (turned[0] @ turned[1].T / math.sqrt(dim)).softmax(-1)
            out[:, part] = attention @ v[:, part]
        h = h + gate1 * (out @ w[p + "attn_out.weight"].T)
        z = (norm(h, w[p + "norm2.weight"]) * (1 + scale2) + shift2) @ w[p + "mlp.0.weight"].T + w[
            p + "mlp.0.bias"
        ]
        z = 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        h = h + gate2 * (z @ w[p + "mlp.2.weight"].T + w[p + "mlp.2.bias"])
    o = "output_layer."
    shift, scale = (w[o + "adaLN_modulation.weight"] @ c + w[o + "adaLN_modulation.bias"]).split(d)
    return (norm(h, w[o + "norm_final.weight"]) * (1 + scale) + shift) @ w[
        o + "linear.weight"
    ].T + w[o + "linear.bias"]


@torch.no_grad()
def test_the_network_equals_the_reference(network):
    x = torch.randint(11, (3, 7), generator=seeded(1))
    sigma = torch.tensor([0.0, 0.4, 5.0])
    out = network(x, sigma)
    for row in range(3):
        # Angles and normalisations are float32 in the network.
        assert torch.allclose(
            out[row],
            reference(network.state_dict(), x[row], float(sigma[row])),
            rtol=1e-5,
            atol=2e-5,
        )


@torch.no_grad()
def test_places_are_embedded_and_the_noise_level_scaled(network):
    """The same as a network without, whose tokens are (token, position), at the scaled level."""
    positioned = DiT(replace(CONFIG, length=9, level_scale=30.0)).double().eval()
    weights = network.state_dict()
    site = torch.randn(9, 24, generator=seeded(4), dtype=torch.float64)
    positioned.load_state_dict(weights | {"site_embed.embedding": site})
    x, sigma = torch.randint(11, (3, 7), generator=seeded(1)), torch.tensor([0.0, 0.01, 0.3])
    pairs = weights["vocab_embed.embedding"][None] + site[:, None]
    network.vocab_embed.embedding = torch.nn.Parameter(pairs.flatten(0, 1))
    torch.testing.assert_close(positioned(x, sigma), network(x + 11 * torch.arange(7), 30 * sigma))
    with pytest.raises(ValueError, match="a sequence has 10 tokens, the DiT was built for 9"):
        positioned(torch.zeros(1, 10, dtype=torch.int64), sigma[:1])


@torch.no_grad()
def test_the_head_runs_on_the_sites_asked_for(network):
    x = torch.randint(11, (4, 7), generator=seeded(1))
    where = torch.rand(4, 7, generator=seeded(2)) < 0.4
    sigma = torch.rand(4, generator=seeded(3))
    rows = []
    network.output_layer.register_forward_pre_hook(
        lambda _, args: rows.append(args[0].shape[:-1].numel())
    )
    full, part = network(x, sigma), network(x, sigma, where)
    assert torch.allclose(full[where], part, atol=1e-10)
    assert rows == [28, int(where.sum())]


@torch.no_grad()
def test_one_noise_level_for_all_is_the_same_as_one_each(network):
    x = torch.randint(11, (4, 7), generator=seeded(1))
    where = torch.rand(4, 7, generator=seeded(2)) < 0.4
    for sites in (None, where):
        each, shared = (
            network(x, torch.full((4,), 0.7), sites),
            network(x, torch.full((1,), 0.7), sites),
        )
        assert torch.allclose(each, shared, atol=1e-5)


@torch.no_grad()
def test_posterior_reading(network):
    forward = Absorbing(vocab_size=11, noise=LogLinear())
    model = PosteriorNetwork(network, forward)
    x = torch.randint(11, (4, 7), generator=seeded(1))
    x[0] = 10
    out = model(x, 0.3)
    assert out.dtype == torch.float32
    assert (out[..., 10] == -torch.inf).all()
    assert torch.allclose(out.exp().sum(-1), torch.ones(4, 7))
    assert torch.equal(out, model(x, 0.9))
    logits = network(x, torch.zeros(4))[..., :10]
    assert torch.allclose(out[..., :10].double(), logits.log_softmax(-1), atol=1e-5)
    p = PosteriorReverse(forward, model).posterior(x, 0.3)
    known = x != 10
    assert torch.equal(p[known].argmax(-1), x[known])
    assert torch.allclose(p[known].amax(-1), torch.ones(int(known.sum()), dtype=p.dtype))


@torch.no_grad()
@pytest.mark.parametrize("t", [0.2, torch.tensor([0.1, 0.5, 0.9, 1.0])])
def test_log_score_reading(network, t):
    """SEDD's scaling: the output less log(e^sigma - 1) + log(V - 1), zero at the own symbol."""
    noise = LogLinear()
    forward = Absorbing(vocab_size=11, noise=noise)
    x = torch.randint(11, (4, 7), generator=seeded(1))
    where = torch.rand(4, 7, generator=seeded(2)) < 0.5
    model = LogScoreNetwork(network, noise)
    sigma = noise.total(t).expand(4)
    raw = network(x, sigma.float()) - torch.log(torch.exp(sigma) - 1)[:, None, None] - math.log(10)
    expected = raw.scatter(-1, x[..., None], 0)
    assert torch.allclose(model(x, t).double(), expected, atol=1e-4)
    assert torch.allclose(model(x, t, where).double(), expected[where], atol=1e-4)
    assert torch.allclose(
        LogScoreReverse(forward, model).log_score(x, t).double(), expected, atol=1e-4
    )
    unscaled = LogScoreNetwork(network, noise, scale_by_sigma=False)(x, t)
    assert torch.allclose(
        unscaled.double(), network(x, sigma.float()).scatter(-1, x[..., None], 0), atol=1e-4
    )


@torch.no_grad()
@pytest.mark.parametrize("times", [0.4, torch.tensor([0.2, 0.9, 0.5], dtype=torch.float64)])
def test_chunks_of_an_evaluation_equal_the_output(network, times):
    """Also where every sequence has its own time, and in micro-batches."""
    for model in (
        LogScoreNetwork(network, LogLinear()),
        PosteriorNetwork(network, Uniform(vocab_size=11, noise=LogLinear())),
    ):
        x = torch.randint(11, (3, 8), generator=seeded(0))
        where = torch.rand(x.shape, generator=seeded(1)) < 0.6
        expected = model(x, times, where)
        parts = MicroBatches(model)
        parts.most = 2
        for evaluation in (model.evaluate(x, times, where), parts.evaluate(x, times, where)):
            chunks = [evaluation(x, times, chunk) for chunk in SiteMask.of(where).split(5)]
            assert torch.allclose(torch.cat(chunks), expected, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiple of 2 x n_heads"):
        DiTConfig(vocab_size=5, hidden_size=30, n_blocks=1, n_heads=4)

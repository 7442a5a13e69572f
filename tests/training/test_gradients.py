"""Flat gradients, and forward and backward passes as CUDA graphs."""

from dataclasses import replace

import pytest
import torch

from builders.statistics import seeded
from jumpsteps.models.formats.native import build
from jumpsteps.models.networks.dit import DiTConfig
from jumpsteps.models.networks.unet import UNetConfig
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.noise import LogLinear
from jumpsteps.training.config import TrainConfig
from jumpsteps.training.cross_entropy import CrossEntropy
from jumpsteps.training.gradients import backward_of, captured, fastest, flat_gradient
from jumpsteps.training.loop import train
from jumpsteps.training.losses import MaskedCrossEntropy

FORWARD = Absorbing(vocab_size=4, noise=LogLinear())
DIT = DiTConfig(vocab_size=4, hidden_size=16, n_blocks=1, n_heads=2, cond_dim=8, dropout=0.2)
UNET = UNetConfig(
    vocab_size=8, shape=(1, 4, 4), channels=8, multipliers=(1,), n_blocks=1, dropout=0.2
)


def image_network(device="cpu"):
    """A U-Net whose convolutions have the layout channels_last, its reverse process and loss."""
    torch.manual_seed(0)
    network, reverse = build(UNET, Gaussian(vocab_size=8), "posterior")
    network.to(device).to(memory_format=torch.channels_last)
    return network, reverse, CrossEntropy(times=16)


def batch(device="cpu"):
    return torch.randint(8, (4, 16), generator=seeded(0)).to(device)


def test_a_flat_gradient_holds_the_gradient_of_every_parameter():
    """To the bit, in the parameters' own memory layouts, and again after an optimiser step."""
    network, reverse, loss = image_network()
    x0, parameters = batch(), list(network.parameters())

    def plain():
        value = loss(reverse, x0, generator=seeded(1)).mean() / 16
        return torch.autograd.grad(value, parameters)

    flat = flat_gradient(parameters)
    assert flat.shape == (sum(p.numel() for p in parameters),)
    assert any(p.ndim == 4 and not p.is_contiguous() for p in parameters)
    assert all(p.grad.stride() == p.stride() for p in parameters)
    backward = backward_of(reverse, loss, flat, bf16=False)
    network.train()
    optimizer = torch.optim.AdamW(parameters, fused=True)
    for seed in (5, 6):
        torch.manual_seed(seed)
        expected = plain()
        torch.manual_seed(seed)
        value = backward(x0, seeded(1))
        torch.manual_seed(seed)
        assert torch.equal(value, loss(reverse, x0, generator=seeded(1)).mean())
        for p, gradient in zip(parameters, expected, strict=True):
            assert torch.equal(p.grad, gradient)
            assert p.grad.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
        squares = sum(float(g.square().sum()) for g in expected)
        assert float(flat.square().sum()) == pytest.approx(squares)
        optimizer.step()


def test_without_a_gpu_training_goes_on_and_says_so():
    lines, compiled = [], []
    plain = lambda x0, generator: torch.zeros(())  # noqa: E731
    found = fastest(plain, batch(), torch.zeros(1), lambda: compiled.append(1), lines.append)
    assert found is plain
    assert compiled == [1]
    assert lines == ["no CUDA graph on the device cpu; training goes on without"]


def run(out, device, cuda_graph):
    torch.manual_seed(0)
    network, reverse = build(DIT, FORWARD, "posterior")
    network.to(device)
    config = TrainConfig(steps=6, batch=8, learning_rate=1e-3, warmup=2, bf16=False, log_every=1)
    lines = []
    _, average, _ = train(
        reverse,
        network,
        MaskedCrossEntropy(),
        lambda n, generator: torch.randint(3, (n, 6), generator=generator, device=device),
        replace(config, cuda_graph=cuda_graph),
        out,
        progress=False,
        say=lines.append,
    )
    return average, lines


def test_asking_for_a_graph_changes_nothing_on_a_cpu(tmp_path):
    plain, _ = run(tmp_path / "plain", "cpu", False)
    asked, lines = run(tmp_path / "asked", "cpu", True)
    assert all(torch.equal(plain[name], asked[name]) for name in plain)
    assert len(lines) == 1


@pytest.mark.gpu
def test_training_by_a_cuda_graph_is_training(tmp_path):
    """The same batches, noise and dropout, whether or not this loss can be recorded."""
    plain, _ = run(tmp_path / "plain", "cuda", False)
    asked, lines = run(tmp_path / "asked", "cuda", True)
    assert len(lines) == 1
    for name in plain:
        torch.testing.assert_close(plain[name], asked[name], atol=1e-4, rtol=1e-3)


@pytest.mark.gpu
def test_the_image_loss_can_be_recorded():
    network, reverse, loss = image_network("cuda")
    network.train()
    flat = flat_gradient(list(network.parameters()))
    lines = []
    plain = backward_of(reverse, loss, flat, bf16=True)
    captured(plain, "eager", batch("cuda"), flat, lines.append)
    assert "as a CUDA graph" in lines[0]

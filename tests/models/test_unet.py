"""The U-Net against a plain evaluation, and its output against 60-digit arithmetic."""

from collections.abc import Callable
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from builders.statistics import seeded
from builders.tauldr_checkpoints import UNET_CONFIG
from builders.tauldr_reference import PlainUNet, random_weights
from jumpsteps.denoiser.checks import check_mode
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.networks.logistic_bins import truncated_logistic
from jumpsteps.models.networks.unet import UNet, UNetConfig, UNetPosterior
from jumpsteps.process.gaussian import Gaussian

PLAIN = PlainUNet()
WEIGHTS = random_weights(PLAIN.layout())
X = torch.randint(7, (3, 48), generator=seeded(1))
T = torch.tensor([0.05, 0.4, 1.0])


def unet(config=UNET_CONFIG):
    network = UNet(config)
    network.load_state_dict(WEIGHTS)
    return network.eval()


def test_parameters_have_the_published_names_shapes_and_order():
    assert [(name, list(p.shape)) for name, p in UNet(UNET_CONFIG).named_parameters()] == list(
        PLAIN.layout().items()
    )
    assert UNet(UNET_CONFIG).state_dict().keys() == PLAIN.layout().keys()


@torch.no_grad()
@pytest.mark.parametrize("rescale", [True, False])
def test_the_network_equals_the_plain_evaluation(rescale):
    config = UNetConfig(**(vars(UNET_CONFIG) | {"rescale": rescale}))
    location, log_scale = PLAIN(WEIGHTS, X, T, rescale)
    assert location.std(0).min() > 1e-3  # images and times matter at every site
    out = unet(config)(X, T)
    torch.testing.assert_close(out[..., 0], location.flatten(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[..., 1], log_scale.flatten(1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_time_for_all_is_the_same_as_one_each():
    model = UNetPosterior(unet())
    torch.testing.assert_close(model(X, 0.4), model(X, torch.full((3,), 0.4)))
    assert (model(X, 0.4) - model(X, 0.5)).abs().max() > 1e-3


def exact_distribution(
    location: float, log_scale: float, size: int, symmetric: bool
) -> list[float]:
    """log(s(u) - s(l) + 1e-6 s(u)) to 60 digits; if symmetric, the smaller floor of both sides."""
    with localcontext() as context:
        context.prec = 60
        inverse = (2 - Decimal(log_scale)).exp()

        def below(k: int) -> Decimal:
            return 1 / (1 + (-(Decimal(2 * k) / size - 1 - Decimal(location)) * inverse).exp())

        out = []
        for k in range(size):
            mass = below(k + 1) - below(k)
            above_lower = 1 - below(k)
            floor = min(below(k + 1), above_lower) if symmetric else below(k + 1)
            out.append(float((mass + floor / 1_000_000).ln()))
        return out


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("location", "log_scale"),
    [(0.25, 0.0), (-0.75, -1.0), (0.5, -2.0), (0.125, 9.0), (-1.0, 1.0), (0.0, -1.0)],
)
def test_the_distribution_of_a_site_to_sixty_digits(location, log_scale, symmetric):
    mean, scale = (
        torch.tensor([location], requires_grad=True),
        torch.tensor([log_scale], requires_grad=True),
    )
    out = truncated_logistic(mean, scale, 256, symmetric=symmetric)
    expected = torch.tensor(
        exact_distribution(location, log_scale, 256, symmetric), dtype=torch.float64
    )
    torch.testing.assert_close(out[0].double(), expected, atol=2e-6, rtol=1e-6)
    out.sum().backward()
    assert mean.grad.isfinite()
    assert scale.grad.isfinite()


def test_the_distribution_is_that_of_the_published_formula_where_that_is_accurate():
    location, log_scale = torch.tensor([-0.3, 0.6]).double(), torch.tensor([-1.0, -1.5]).double()
    centres = torch.linspace(-1 + 1 / 8, 1 - 1 / 8, 8, dtype=torch.float64)
    inverse = torch.exp(-(log_scale - 2))[:, None]
    left, right = ((centres + side / 8 - location[:, None]) * inverse for side in (-1, 1))
    a, b = torch.nn.functional.logsigmoid(right), torch.nn.functional.logsigmoid(left)
    upper = a + torch.log1p(-torch.exp(b - a) + 1e-6)
    c, d = b - left, a - right
    lower = c + torch.log1p(-torch.exp(d - c) + 1e-6)
    torch.testing.assert_close(
        truncated_logistic(location, log_scale, 8, symmetric=False), upper, atol=1e-9, rtol=0
    )
    both = torch.minimum(upper, lower)
    assert (both - upper).abs().max() > 1e-3
    torch.testing.assert_close(
        truncated_logistic(location, log_scale, 8, symmetric=True), both, atol=1e-9, rtol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_posterior_is_the_normalised_distribution_at_the_sites_asked_for(symmetric):
    model = UNetPosterior(unet(UNetConfig(**(vars(UNET_CONFIG) | {"symmetric": symmetric}))))
    location, log_scale = (part.flatten().tolist() for part in PLAIN(WEIGHTS, X, T))
    rows = zip(location, log_scale, strict=True)
    expected = (
        torch.tensor([exact_distribution(*row, 7, symmetric) for row in rows])
        .log_softmax(-1)
        .reshape(3, 48, 7)
    )
    out = model(X, T)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=2e-5)
    where = torch.rand(3, 48, generator=seeded(2)) < 0.4
    torch.testing.assert_close(model(X, T, where), out[where])


@torch.no_grad()
def test_two_numbers_a_site_are_evaluated():
    model = UNetPosterior(unet())
    where = torch.rand(3, 48, generator=seeded(2)) < 0.4
    some = where & (torch.rand(3, 48, generator=seeded(3)) < 0.5)
    kept = model.evaluate(X, 0.4, where)
    assert kept.rows.shape == (int(where.sum()), 2)
    torch.testing.assert_close(kept(X, 0.4, some), model(X, 0.4)[some])
    reverse = PosteriorReverse(Gaussian(vocab_size=7, rate_sigma=1.0, q_sigma=4.0), model)
    assert reverse.rates(X, 0.4, some).isfinite().all()


@pytest.mark.slow
def test_a_fresh_network_trains():
    torch.manual_seed(0)
    network = UNet(UNET_CONFIG)
    model, x = UNetPosterior(network), X[:1].expand(8, -1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        noisy = torch.where(
            torch.rand(x.shape, generator=seeded(len(losses))) < 0.5, x, (x + 3) % 7
        )
        loss = -model(noisy, 0.5).gather(-1, x[..., None]).mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] < 4
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_acts_in_training_only():
    model = UNetPosterior(unet(UNetConfig(**(vars(UNET_CONFIG) | {"dropout": 0.5}))))
    assert torch.equal(model(X, 0.4), model(X, 0.4))
    model.train()
    assert not torch.equal(model(X, 0.4), model(X, 0.4))


def test_a_network_that_is_set_to_eval_can_be_sampled():
    """Whatever the mode of what is around it."""
    model = UNetPosterior(unet())
    check_mode(model)
    model.train()
    with pytest.raises(ValueError, match="is in train mode"):
        check_mode(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 6}, "channels must be a multiple of 4, and of 32 above 128, got 6"),
        ({"channels": 132}, "got 132"),
        (
            {"multipliers": (1, 2, 2)},
            r"3 resolutions need an image whose sides are multiples of 4, got shape \[2, 4, 6\]",
        ),
        ({"multipliers": ()}, "0 resolutions"),
        ({"time_dim": 3}, "time_dim must be at least 4, got 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**(vars(UNET_CONFIG) | change))


def test_an_image_of_another_size_is_refused():
    with pytest.raises(
        ValueError, match=r"47 tokens, the U-Net reads images of shape \[2, 4, 6\]; give it 48"
    ):
        unet()(X[:, 1:], T)


def test_the_defaults_are_those_of_the_published_model():
    with torch.device("meta"):
        network = UNet(UNetConfig())
    assert sum(p.numel() for p in network.parameters()) == 35_749_766


@torch.no_grad()
def test_a_compiled_head_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = UNetPosterior(unet())
    expected = posterior(X, T)
    compiled = []

    def traced(function: Callable[..., Tensor], **options: bool) -> Callable[..., Tensor]:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", traced)
    posterior.compile_trunk()
    assert len(compiled) == 2
    assert torch.equal(posterior(X, T), expected)
    # A smaller batch is padded to the size that is compiled.
    torch.testing.assert_close(posterior(X[1:], T[1:]), expected[1:], rtol=1e-5, atol=1e-5)
    assert posterior.network.shapes.known == {tuple(X.shape)}


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cast", [False, True])
@torch.no_grad()
def test_a_recorded_unet_gives_the_same_numbers(
    cast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    plain, fast = (UNetPosterior(unet()).cuda() for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    fast.compile_trunk()
    every = torch.ones(X.shape, dtype=torch.bool, device="cuda")
    with torch.autocast("cuda", torch.bfloat16, cast):
        kept = fast.evaluate(X.cuda(), 0.3, every)
    tolerance = 0.1 if cast else 1e-3
    for batch in (len(X), 1, len(X)):
        for t in (0.7, torch.linspace(0.1, 0.9, batch, dtype=torch.float64, device="cuda")):
            x = torch.roll(X, 1, 1)[:batch].cuda()
            with torch.autocast("cuda", torch.bfloat16, cast):
                found, expected = fast(x, t), plain(x, t)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    # What was kept outlives the replays.
    again = plain.evaluate(X.cuda(), 0.3, every)
    torch.testing.assert_close(kept.rows, again.rows.to(kept.rows), rtol=tolerance, atol=tolerance)

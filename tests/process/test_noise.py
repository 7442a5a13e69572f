import math

import pytest
import torch
from scipy.integrate import quad

from jumpsteps.process.noise import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    LogLinear,
    NoiseSchedule,
)

SCHEDULES = [
    LogLinear(),
    LogLinear(eps=0.1),
    Cosine(),
    Cosine(eps=0.05),
    Constant(2.5),
    Constant(0.3),
    Exponential(base=100.0, scale=3.0),
    Exponential(base=2.0, scale=0.7),
    Geometric(),
    Geometric(lowest=0.02, highest=3.0),
]
TIMES = [0.001, 0.1, 0.37, 0.5, 0.9, 1.0]

every_schedule = pytest.mark.parametrize("noise", SCHEDULES, ids=repr)


def at_once(noise: NoiseSchedule) -> float:
    """Noise that comes before any time has passed."""
    return noise.lowest if isinstance(noise, Geometric) else 0.0


@every_schedule
def test_nothing_has_happened_at_time_zero(noise: NoiseSchedule) -> None:
    assert float(noise.total(0.0)) == 0
    assert float(noise.alpha(0.0)) == 1
    assert float(noise.inverse(0.0)) == 0
    assert float(noise.time_of_alpha(1.0)) == 0


@every_schedule
@pytest.mark.parametrize("t", TIMES)
def test_total_is_the_integral_of_the_rate(noise: NoiseSchedule, t: float) -> None:
    integral, _ = quad(lambda u: float(noise.rate(u)), 0, t, epsabs=1e-12, epsrel=1e-12, limit=400)
    assert float(noise.total(t)) == pytest.approx(at_once(noise) + integral, rel=1e-9, abs=1e-9)


@every_schedule
def test_total_starts_at_the_noise_that_comes_at_once(noise: NoiseSchedule) -> None:
    t = torch.tensor([0.0, 1e-300, 1e-15, 1e-12], dtype=torch.float64)
    expected = torch.full_like(t, at_once(noise))
    expected[0] = 0
    torch.testing.assert_close(noise.total(t), expected, rtol=0, atol=1e-8)
    assert noise.total(t)[1] == pytest.approx(at_once(noise), rel=1e-14, abs=1e-290)
    assert (noise.inverse(at_once(noise) * torch.tensor([0.0, 0.3, 0.999])) == 0).all()
    assert noise.inverse(noise.total(1e-300)) == pytest.approx(0, abs=1e-15)


@every_schedule
def test_the_rate_is_finite_at_both_ends(noise: NoiseSchedule) -> None:
    ends = torch.tensor([0.0, 1e-300, 1e-12, 1 - 1e-12, 1.0], dtype=torch.float64)
    rate = noise.rate(ends)
    assert rate.isfinite().all()
    assert (rate >= 0).all()
    assert rate[3] > 0
    torch.testing.assert_close(rate[1:3], rate[:1].expand(2), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rate[3], rate[4], rtol=1e-6, atol=0)
    assert noise.total(1.0).isfinite()


@pytest.mark.parametrize("small", [1e-6, 1e-12, 1e-15, 1e-16, 1e-17, 1e-100, 1e-300])
@pytest.mark.parametrize("build", [LogLinear, Cosine, Geometric])
def test_extreme_schedules_are_finite_or_refused(build: type[NoiseSchedule], small: float) -> None:
    try:
        noise = build(small)
    except ValueError:
        return
    ends = torch.tensor([0.0, 1e-12, 0.5, 1.0], dtype=torch.float64)
    for values in (noise.rate(ends), noise.total(ends)):
        assert values.isfinite().all()
        assert (values >= 0).all()


@every_schedule
def test_inverse_undoes_total(noise: NoiseSchedule) -> None:
    t = torch.tensor([0.0, *TIMES], dtype=torch.float64)
    torch.testing.assert_close(noise.inverse(noise.total(t)), t, rtol=1e-9, atol=1e-12)


@every_schedule
def test_alpha_is_the_survival(noise: NoiseSchedule) -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha = noise.alpha(t)
    torch.testing.assert_close(alpha, torch.exp(-noise.total(t)), rtol=1e-14, atol=0)
    assert (alpha.diff() < 0).all()
    torch.testing.assert_close(noise.time_of_alpha(alpha), t, rtol=1e-9, atol=1e-12)


def test_survivals_in_closed_form() -> None:
    t = torch.tensor([0.0, 0.2, 0.75, 1.0], dtype=torch.float64)
    expected = {
        LogLinear(eps=0.01): 1 - 0.99 * t,
        Cosine(eps=0.01): torch.cos(0.5 * math.pi * 0.99 * t),
        Constant(1.3): torch.exp(-1.3 * t),
        Exponential(base=10.0, scale=0.4): torch.exp(-0.4 * (10**t - 1)),
        Geometric(lowest=0.03, highest=7.0): torch.exp(-(0.03 ** (1 - t)) * 7.0**t).where(
            t > 0, 1.0
        ),
    }
    for noise, alpha in expected.items():
        torch.testing.assert_close(noise.alpha(t), alpha, rtol=1e-12, atol=1e-15)


@every_schedule
@pytest.mark.parametrize("method", ["rate", "total", "inverse", "alpha", "time_of_alpha"])
def test_float64_out_and_the_shape_of_the_time(noise: NoiseSchedule, method: str) -> None:
    function = getattr(noise, method)
    number = function(0.5)
    assert number.dtype == torch.float64
    assert number.shape == ()
    for shape in [(), (1,), (3,), (2, 1), (0,), (2, 3, 1)]:
        for dtype in (torch.float32, torch.float64):
            out = function(torch.full(shape, 0.5, dtype=dtype))
            assert out.dtype == torch.float64
            assert out.shape == shape
            assert (out == number).all()
    assert float(function(1)) == float(function(1.0))


@pytest.mark.parametrize("eps", [-0.1, 0.0, 1.0, 2.0, math.nan])
def test_log_linear_refuses(eps: float) -> None:
    with pytest.raises(ValueError, match=r"LogLinear needs 0 < eps < 1, .* got eps="):
        LogLinear(eps=eps)


@pytest.mark.parametrize("eps", [-0.1, 0.0, 1.0, math.nan])
def test_cosine_refuses(eps: float) -> None:
    with pytest.raises(ValueError, match=r"Cosine needs 0 < eps < 1, got eps="):
        Cosine(eps=eps)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_constant_refuses(value: float) -> None:
    with pytest.raises(ValueError, match=r"Constant needs a positive, finite rate, got value="):
        Constant(value)


@pytest.mark.parametrize(
    ("base", "scale"),
    [(1.0, 1.0), (0.5, 1.0), (2.0, 0.0), (2.0, -1.0), (math.nan, 1.0), (2.0, math.nan)],
)
def test_exponential_refuses(base: float, scale: float) -> None:
    with pytest.raises(
        ValueError, match=r"Exponential needs finite base > 1 and scale > 0, got base="
    ):
        Exponential(base=base, scale=scale)


@pytest.mark.parametrize(
    ("lowest", "highest"),
    [
        (0.0, 1.0),
        (-1.0, 1.0),
        (1.0, 1.0),
        (2.0, 1.0),
        (1.0, math.inf),
        (math.nan, 1.0),
        (0.1, math.nan),
    ],
)
def test_geometric_refuses(lowest: float, highest: float) -> None:
    with pytest.raises(
        ValueError, match=r"Geometric needs 0 < lowest < highest, got lowest=.*, highest="
    ):
        Geometric(lowest=lowest, highest=highest)

r"""Held-out bits per dimension of an image model: the few-step NLL of Tweedie's sampler.

    python experiments/cifar10_nll.py MODEL DATA [--nfe 32 128 512] [-n 2000] [--device cuda]

DATA is a path that the task images reads; the first n test images are used. With N equal steps from
t = 1 to 0,

    -log p(x_0) <= KL(q_{1|0}(. | x_0) || prior)                                   "prior"
                   + sum over steps to s > 0 of
                     E KL(q(x_s | x_t, x_0) || p(x_s | x_t))                       "steps"
                   + E sum over sites of -log p(x_0^l | x_{1/N})                   "last step"

(Campbell et al. 2022, App. C; few_step_nll in the library). Each KL is exact. Of the steps to s > 0
one is measured for each image, drawn at random, which estimates the sum without bias. On a
GPU the network runs under bfloat16 autocast. Intervals are over images, 95%.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from corrector_plans import command_line
from jumpsteps import load
from jumpsteps.core.draws import RowDraws
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.process.rate_matrix import MatrixKernel
from jumpsteps.tasks.image_files import open_images
from jumpsteps.training.losses import negative_log_likelihood
from results import device_name, table, write_results

SEED = 0
PARTS = ("prior", "steps", "last step")


def prior_divergence(forward: MatrixKernel) -> Tensor:
    """KL(q_{1|0}(. | x_0^l) || prior) for each symbol, float64 [V]."""
    rows = forward.transition(0.0, 1.0)
    return (torch.xlogy(rows, rows) - rows * forward.prior().log()).sum(-1)


def divergence(
    log_p: Tensor, x0: Tensor, x: Tensor, to_s: Tensor, to_t: Tensor, s_to_t: Tensor
) -> Tensor:
    """Sum over sites of KL(q(x_s | x_t, x_0) || p(x_s | x_t)) for one image, in nats.

    With w = p(x_0 | x_t) / q(x_t | x_0), p(x_s | x_t) is q(x_t | x_s) sum_{x_0} w q(x_s | x_0), and
    q(x_t | x_s) cancels in the logarithm.

    Args:
        log_p: log p(x_0^l | x_t), [L, V].
        x0, x: x_0 and x_t, int64 [L].
        to_s, to_t, s_to_t: transition matrices from 0 to s, 0 to t, s to t, float64 [V, V].
    """
    w = log_p.double().exp() / to_t[:, x].T
    bridge, own = w @ to_s, to_s[x0]
    likelihood = to_t[x0, x][:, None]
    q = own * s_to_t[:, x].T / likelihood
    return (torch.xlogy(q, own) - torch.xlogy(q, bridge * likelihood)).sum()


def parts_of(reverse: ReverseProcess, x0: Tensor, nfe: int, generator: torch.Generator) -> Tensor:
    """The three parts of the bound, in nats per image, float64 [B, 3].

    That of the steps is the divergence at one of them over the probability of choosing it, which is
    proportional to t^(-3/2): late steps cost most.
    """
    forward, device, n = reverse.forward, x0.device, len(x0)
    times = torch.arange(2, nfe + 1, device=device, dtype=torch.float64) / nfe
    chance = times**-1.5 / (times**-1.5).sum()
    within = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
    place = (torch.arange(n, device=device) + within) / n
    step = torch.searchsorted(chance.cumsum(0), place).clamp_max(nfe - 2)
    t = times[step]
    total_s, total_t = (forward.noise.total(time) for time in (t - 1 / nfe, t))
    to_s, to_t, s_to_t = (
        forward.exponential(each) for each in (total_s, total_t, total_t - total_s)
    )
    start = torch.arange(n, device=device)[:, None] * forward.vocab_size
    x = RowDraws(to_t.flatten(0, 1)).draw(start + x0, generator=generator)
    log_p = reverse.call_model(x, t)
    divergences = [
        divergence(log_p[i].log_softmax(-1), x0[i], x[i], to_s[i], to_t[i], s_to_t[i])
        for i in range(n)
    ]
    x = RowDraws(forward.transition(0.0, 1 / nfe).to(device)).draw(x0, generator=generator)
    last = negative_log_likelihood(reverse.call_model(x, 1 / nfe), x0).sum(-1)
    prior = prior_divergence(forward).to(device)[x0].sum(-1)
    return torch.stack([prior, torch.stack(divergences) / chance[step], last.double()], -1)


def bits_per_dimension(
    reverse: ReverseProcess, images: Tensor, nfe: int, batch: int, device: torch.device
) -> list[list[float]]:
    """Mean and half the 95% interval of the parts and of their sum."""
    generator = torch.Generator(device).manual_seed(SEED)
    with (
        torch.no_grad(),
        torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"),
    ):
        nats = torch.cat(
            [
                parts_of(reverse, part.to(device).long(), nfe, generator).cpu()
                for part in images.split(batch)
            ]
        )
    bits = torch.cat([nats, nats.sum(-1, keepdim=True)], -1) / math.log(2) / images.shape[1]
    half = 1.96 * bits.std(0) / len(bits) ** 0.5
    return [[float(mean), float(h)] for mean, h in zip(bits.mean(0), half, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description="held-out bits per dimension")
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--nfe", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", type=Path)
    args = parser.parse_args()

    device = torch.device(args.device)
    model = load(args.model, device=device)
    files = open_images(args.data)
    images = files.test.tokens(range(min(args.n, files.test.count)))
    rows = []
    for nfe in args.nfe:
        cells = bits_per_dimension(model.reverse, images, nfe, args.batch, device)
        rows.append([str(nfe), *cells])
        print(nfe, "  ".join(f"{mean:.4f} ±{half:.4f}" for mean, half in cells), flush=True)
    if args.o is not None:
        head = ["NFE", *PARTS, "bits per dimension"]
        write_results(
            args.o,
            __file__,
            {"bits-per-dimension": table(head, rows, cell="{:.3f} ±{:.3f}")},
            command=command_line(),
            seed=SEED,
            images=len(images),
            data=f"test images of {files.name}",
            device=device_name(args.device),
        )


if __name__ == "__main__":
    main()

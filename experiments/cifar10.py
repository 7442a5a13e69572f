r"""Quality of samples on CIFAR-10 by sampler, schedule and number of model calls: FD-cifar.

    python experiments/cifar10.py cifar10-gaussian DATA OUT --device cuda --bf16 --compile

Every row is a file OUT/rows/SAMPLER.SCHEDULE.NFE.json; rows whose file is there are skipped, so a
run that was stopped goes on, and several processes may share OUT with different ``--only``. The
most telling rows come first. OUT/schedules keeps what searches found, OUT/samples the first images
of every row and a film of their denoising, as .npz files. ``cifar10_figures.py`` draws from OUT.

FD-cifar is the Frechet distance, in the features of ``cifar10-features``, of n samples from the
test images. Its 95% interval is 1.96 standard deviations of a bootstrap over samples, the test
images held fixed. Precision and recall have 3 neighbours. All rows start from the same noise. For
scale there are rows of training images, of test images with rounded Gaussian noise, and of the
model at many calls. On a CPU, to see that it runs:

    python experiments/cifar10.py cifar10-gaussian DATA OUT -n 8 --nfe 2 4 --images 2 \
        --batch 8 --test 64 --race 16 --reference 8
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cifar10_schedules import SCHEDULES, Schedules
from jumpsteps import load
from jumpsteps.core.files import replacing, write_json
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.evaluation.features import (
    Extractor,
    Moments,
    extract,
    frechet_distance,
    precision_recall,
)
from jumpsteps.models.extractors import load_extractor
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.models.networks.time_features import time_tensor
from jumpsteps.models.networks.unet import LogisticHead, UNetPosterior
from jumpsteps.process.noise import Time
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.corrector import PredictorCorrector
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.tasks.image_files import Files, open_images
from jumpsteps.tasks.images import neighbour_difference
from results import device_name

SAMPLERS: dict[str, Sampler] = {
    "tau-leaping": TauLeaping(ordinal=True),
    "tweedie": Tweedie(),
    "euler": Euler(),
    "predictor-corrector": PredictorCorrector(Tweedie()),
}
MAIN = (
    "uniform",
    "matched-spectrum",
    "jys-context",
    "shortest-path-noise",
    "matched-spectrum-coarse",
    "shortest-path",
    "cosine",
)
TELLING = (
    (
        ("tau-leaping", "uniform"),
        ("tau-leaping", "jys-context"),
        ("tweedie", "uniform"),
        ("tweedie", "matched-spectrum"),
    ),
    (("tau-leaping", "jys"), ("tau-leaping", "shortest-path-noise"), ("tweedie", "jys-context")),
)
"""Samplers and schedules whose rows come first, at all numbers of calls."""
SIGMAS = (5, 20)
SEARCH_IMAGES = (4, 16, 64, 256)
"""Images of the searches whose schedules are compared, at the first number of calls: Figure 10.
Forward paths of 256 images take 28 GB, those of 1,024 more than a GPU has."""
RESAMPLES = 100
KEPT, FILM = 64, 8
"""Images of a row that are kept, and sequences in the film of its denoising."""


@dataclass(frozen=True)
class Row:
    sampler: str
    schedule: str
    nfe: int

    @property
    def name(self) -> str:
        return f"{self.sampler}.{self.schedule}.{self.nfe}"


class Autocast(torch.nn.Module):
    """The network in bfloat16 autocast; its head in float32."""

    reads_site_mask = True

    def __init__(self, model: UNetPosterior) -> None:
        super().__init__()
        self.model = model

    def rows(self, x: Tensor, t: Time) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            rows: Tensor = self.model.network(x, time_tensor(t, x.device))
            return rows

    def forward(self, x: Tensor, t: Time, where: SiteMask | None = None) -> Tensor:
        return self.model.read(selected(self.rows(x, t), where))

    def evaluate(self, x: Tensor, t: float, where: SiteMask) -> Evaluation:
        rows = selected(self.rows(x, t), where)
        return Evaluation(rows, where, LogisticHead(self.model))


def prepared(name: str, device: torch.device, *, bf16: bool, compiled: bool) -> LoadedModel:
    """The model, its network in channels-last layout."""
    model = load(name, device=device)
    network = model.reverse.model
    assert isinstance(network, UNetPosterior)
    network.network.to(memory_format=torch.channels_last)
    if compiled:
        network.compile_trunk()
    return (
        replace(model, reverse=replace(model.reverse, model=Autocast(network))) if bf16 else model
    )


def plan(nfe: list[int], reference: int) -> Iterator[Row]:
    """All rows, the most telling first."""
    first = [n for n in (32, 64, 16, 128) if n in nfe] or nfe
    for pairs in TELLING:
        yield from (Row(*pair, n) for n in [*first, *nfe] for pair in pairs)
    for sampler in ("tau-leaping", "tweedie"):
        yield from (Row(sampler, schedule, n) for n in first for schedule in MAIN)
    for schedule in ("race", "jys-cut", "jys"):
        yield from (Row(s, schedule, n) for s in ("tau-leaping", "tweedie") for n in first)
    for n in [n for n in nfe if n not in first]:
        yield from (Row(s, sc, n) for s in ("tau-leaping", "tweedie") for sc in SCHEDULES)
    for sampler in ("euler", "predictor-corrector"):
        yield from (Row(sampler, sc, n) for n in [*first, *nfe] for sc in MAIN)
    yield from (Row(s, "uniform", reference) for s in ("tweedie", "tau-leaping"))
    for name in ("jys-context", "shortest-path-noise"):
        yield from (Row("tau-leaping", f"{name}@{n}", first[0]) for n in SEARCH_IMAGES)


@dataclass(frozen=True)
class Judge:
    """FD-cifar, precision and recall of samples against test images.

    Attributes:
        features: of the test images, float64 [n, D].
    """

    extractor: Extractor
    features: Tensor

    def __call__(self, samples: Tensor) -> dict[str, Any]:
        found = extract(self.extractor, samples)
        moments = Moments.of(self.features)
        generator = torch.Generator(found.device).manual_seed(0)
        again = []
        for _ in range(RESAMPLES):
            rows = torch.randint(
                len(found), (len(found),), generator=generator, device=found.device
            )
            again.append(frechet_distance(found[rows], moments))
        pair = precision_recall(self.features, found)
        return {
            "n": len(samples),
            "fd": frechet_distance(found, moments),
            "half": 1.96 * float(np.std(again, ddof=1)),
            "precision": pair.precision,
            "recall": pair.recall,
            "difference": float(neighbour_difference(samples).mean()),
        }


def draw(
    reverse: ReverseProcess,
    sampler: Sampler,
    schedule: Schedule,
    n: int,
    batch: int,
    device: torch.device,
) -> tuple[Tensor, list[Tensor], int]:
    """Samples uint8 [n, 3072] on the device, states of the first ones after every step, and the
    calls.
    """
    generator, parts, film = torch.Generator(device).manual_seed(1), [], []
    for start in range(0, n, batch):
        keep = (lambda t, x: film.append(x[:FILM].byte().cpu())) if start == 0 else None
        shape = (min(batch, n - start), 3072)
        run = simulate(reverse, sampler, schedule, shape, generator=generator, callback=keep)
        parts.append(run.samples.byte())
    return torch.cat(parts), film, run.nfe


def measure(
    row: Row, reverse: ReverseProcess, schedules: Schedules, judge: Judge, args: Any
) -> dict[str, Any]:
    device, sampler = torch.device(args.device), SAMPLERS[row.sampler]
    schedule = schedules.get(row.schedule, sampler, row.nfe)
    start = time.perf_counter()
    samples, film, calls = draw(reverse, sampler, schedule, args.n, args.batch, device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    with replacing(args.out / "samples" / f"{row.name}.npz") as path:
        np.savez_compressed(
            path, samples=samples[:KEPT].cpu().numpy(), film=torch.stack(film).numpy()
        )
    return {
        **vars(row),
        **judge(samples.long()),
        "calls": calls,
        "seconds": round(seconds, 1),
        "times": [*(step.t for step in schedule.plan(reverse.forward)), 0.0],
    }


def references(judge: Judge, files: Files, test: Tensor, n: int, out: Path) -> None:
    """Rows of training images and of test images with noise."""
    generator = torch.Generator(test.device).manual_seed(2)
    sets = {"training images": files.train.tokens(range(n)).to(test.device).long()}
    for sigma in SIGMAS:
        noise = sigma * torch.randn(test[:n].shape, generator=generator, device=test.device)
        sets[f"test images, noise of {sigma}"] = (test[:n] + noise).round().clamp(0, 255).long()
    for name, samples in sets.items():
        path = out / "rows" / f"reference.{name.replace(' ', '-').replace(',', '')}.json"
        if not path.exists():
            row = {"reference": name, **judge(samples)}
            print(f"{name}: {row['fd']:.2f} ±{row['half']:.2f}", flush=True)
            write_json(path, row)


def parsed() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="the network in bfloat16 autocast")
    parser.add_argument("--compile", action="store_true", help="for sampling; searches stay eager")
    parser.add_argument("-n", type=int, default=10_000, help="samples of a row")
    parser.add_argument("--nfe", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no row after so many")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    parser.add_argument("--images", type=int, default=256, help="that a search sees at most")
    parser.add_argument("--race", type=int, default=256, help="samples of a schedule in a race")
    parser.add_argument("--reference", type=int, default=512, help="calls of the last rows")
    parser.add_argument("--features", default="cifar10-features", help="extractor, name or folder")
    return parser.parse_args()


def main() -> None:
    start, args = time.perf_counter(), parsed()
    device = torch.device(args.device)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    model, compiled = (
        prepared(args.model, device, bf16=args.bf16, compiled=each)
        for each in (False, args.compile)
    )
    extractor, files = load_extractor(args.features, device=device), open_images(args.data)
    test = files.test.tokens(range(min(args.test, files.test.count))).to(device).long()
    judge = Judge(extractor, extract(extractor, test))
    order = torch.randperm(files.train.count, generator=torch.Generator().manual_seed(0)).tolist()
    data, others = (
        files.train.tokens(order[a:b]).to(device).long() for a, b in ((0, 256), (256, 512))
    )
    nfe = tuple(sorted(set(args.nfe)))
    kept = args.out / "schedules"
    schedules = Schedules(kept, model, extractor, data, others, nfe, args.images, args.race)
    about = {"model": model.digest, "data": files.name, "device": device_name(args.device)}
    write_json(args.out / "about.json", {k: str(v) for k, v in vars(args).items()} | about)
    references(judge, files, test, min(args.n, len(test)), args.out)
    for row in dict.fromkeys(plan(args.nfe, args.reference)):
        path = args.out / "rows" / f"{row.name}.json"
        if path.exists() or not any(part in row.name for part in args.only):
            continue
        if row.schedule.startswith("jys") and row.nfe & (row.nfe - 1):
            continue  # Jump Your Steps finds powers of two only.
        if time.perf_counter() - start > 60 * args.minutes:
            print("the minutes are used up; run the same command again for the other rows")
            break
        measured = measure(row, compiled.reverse, schedules, judge, args)
        shown = json.dumps({k: v for k, v in measured.items() if k != "times"})
        print(f"{time.perf_counter() - start:.0f} s: {shown}", flush=True)
        write_json(path, measured)


if __name__ == "__main__":
    main()

"""Schedules of the image model, each found when it is first asked for and kept in a file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.evaluation.features import Extractor
from jumpsteps.evaluation.race import race
from jumpsteps.models.loaded import LoadedModel
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import TauLeaping, Tweedie
from jumpsteps.schedules.files import load_schedules, save_schedules
from jumpsteps.schedules.fixed import cosine, power, uniform
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.costs.correction import NOISE_WEIGHTED
from jumpsteps.search.jys import JYS
from jumpsteps.search.matched_spectrum import MatchedSpectrum
from jumpsteps.search.method import Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.shortest_path import ShortestPath

T_MIN = 0.01
"""Where tauLDR's runs end before the last, denoising step."""

SEARCHES: dict[str, tuple[Method, int]] = {
    "jys": (JYS(), 64),
    "jys-cut": (JYS(t_min=T_MIN), 64),
    "jys-context": (JYS(full=True, hold_time=False, t_min=T_MIN), 64),
    "shortest-path": (ShortestPath(t_min=T_MIN), 16),
    "shortest-path-noise": (ShortestPath(t_min=T_MIN, correction=NOISE_WEIGHTED), 16),
    "matched-spectrum": (MatchedSpectrum(), 64),
    "matched-spectrum-coarse": (MatchedSpectrum(detail=0.0), 64),
}
"""Name -> search, and images that it sees: Jump Your Steps as published, up to t = 0.01, and with
coarse rates whose context alone is frozen; the shortest path, and with errors weighed by noise; the
spectrum of Tweedie's samples matched, by relative and by squared intensities."""

POWERS = (0.75, 1.25, 1.5, 2.0, 3.0)
RACED = (
    "jys-cut",
    "jys-context",
    "shortest-path",
    "shortest-path-noise",
    "matched-spectrum",
    "matched-spectrum-coarse",
)
SCHEDULES = ("uniform", "cosine", *SEARCHES, "race")


@dataclass(frozen=True)
class FeatureSimilarity:
    """(1 + f(x) f(y) / D)^3 with features f: the kernel of KID (Binkowski et al. 2018)."""

    extractor: Extractor

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        first, second = (self.extractor(part).double() for part in (x, y))
        return (1 + first @ second.T / first.shape[1]).pow(3)


@dataclass(frozen=True)
class Schedules:
    """Attributes:
    folder: where found schedules are kept, a file for each name and sampler.
    data: images for the searches, int64 [n, L].
    race_data: other images, for races.
    nfe: all numbers of model calls that will be asked for.
    images: of a search, at most.
    """

    folder: Path
    model: LoadedModel
    extractor: Extractor
    data: Tensor
    race_data: Tensor
    nfe: tuple[int, ...]
    images: int
    race_samples: int

    def get(self, name: str, sampler: Sampler, nfe: int) -> Schedule:
        """The schedule of this name whose run takes ``nfe`` model calls, or one less."""
        steps = sampler.steps(nfe)
        if name in ("uniform", "cosine"):
            return {"uniform": uniform, "cosine": cosine}[name](steps)
        own = name == "race" or sampler == TauLeaping(ordinal=True)
        by = sampler if own and not name.startswith("matched") else Tweedie()
        key = f"{name}.{by.name}" if name.startswith("shortest-path") else name
        key = f"race.{by.name}.{nfe}" if name == "race" else key
        path = self.folder / f"{key}.json"
        found = load_schedules(path) if path.exists() else {}
        if steps not in found:
            start = time.perf_counter()
            found = self.raced(by, nfe) if name == "race" else self.search(name, by, steps)
            print(f"{path.name}: {time.perf_counter() - start:.1f} s", flush=True)
            save_schedules(path, found)
        return found[steps]

    def search(self, name: str, sampler: Sampler, steps: int) -> Mapping[int, Schedule]:
        """For these steps, and those of all budgets with one call or two for each step.

        NAME@N is a search on N images, for these steps alone.
        """
        kind, _, number = name.partition("@")
        method, images = SEARCHES[kind]
        data = self.data[: min(int(number or images), self.images)]
        wanted = set() if number else {n for nfe in self.nfe for n in (nfe, nfe // 2)}
        if isinstance(method, JYS):
            wanted = {n for n in wanted if n & (n - 1) == 0}
        return optimize_schedule(
            self.model.reverse,
            data,
            sorted({steps, *wanted} - {0}),
            generator=torch.Generator(data.device).manual_seed(0),
            method=method,
            sampler=sampler,
            about=self.model.provenance("CIFAR-10"),
        )

    def raced(self, sampler: Sampler, nfe: int) -> Mapping[int, Schedule]:
        steps = sampler.steps(nfe)
        entered: dict[str, Schedule] = {f"power {p:g}": power(steps, p) for p in POWERS}
        for name in ("uniform", "cosine", *RACED):
            if name.startswith("jys") and steps & (steps - 1):
                continue
            entered[name] = self.get(name, sampler, nfe)
        result = race(
            self.model.reverse,
            self.race_data,
            {name: {nfe: schedule} for name, schedule in entered.items()},
            sampler=sampler,
            samples=self.race_samples,
            similarity=FeatureSimilarity(self.extractor),
            plain=("uniform", "cosine"),
            generator=torch.Generator(self.data.device).manual_seed(0),
        )
        print(result, flush=True)
        return {steps: result.schedules[nfe]}

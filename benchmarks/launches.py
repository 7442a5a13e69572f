"""How many kernels a sampling step launches beside the network, and how often it waits for a GPU.

    python benchmarks/launches.py OUT.json

No GPU is needed. Tensors that would be on one are stand-ins (``OnDevice``) that report a CUDA
device and compute on the CPU. Counted are, in the second batch of a schedule of 8 steps and
divided by their number:

* launches: operations on such tensors that are not views. A GPU may use several kernels for one
  (``unique``, ``nonzero``) or one for several that a compiler fuses;
* waits: those after which the CPU waits for the GPU, which are numbers read from it, copies from
  and to it, and results whose size it must know. Numbers that are copied in the background and read
  later are not.

Images: the network is a stand-in that returns the same location and scale at every call. A pass of
its head counts as four launches, because ``--compile`` makes it a few. Kernels, samplers and the
number of sites of a sequence are those of ``step_gaussian.py``; the batch is as large as it must be
for draws to take the way of a large one.

Text: the absorbing kernel with 300 symbols, 8 sequences of 256 sites, and a stand-in that returns
the same logits. Counts are in spread order.
"""

import argparse
import collections
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from step_gaussian import KERNELS, SAMPLERS, SHAPE
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from jumpsteps.core.files import write_json
from jumpsteps.core.site_mask import SiteMask, selected
from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.parameterisations import PosteriorReverse
from jumpsteps.models.networks.logistic_bins import log_probabilities
from jumpsteps.models.networks.logistic_draws import weighted_draw, weighted_masses
from jumpsteps.models.networks.time_features import time_tensor
from jumpsteps.models.networks.unet import CompiledHead, UNet, UNetConfig, UNetPosterior
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.noise import LogLinear, Time
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import simulate
from jumpsteps.sampling.multistep import MultistepKGillespie
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.sampling.parallel_decoding import KGillespie
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.schedule import CountSchedule

DEVICE = torch.device("cuda", 0)
BATCH, STEPS = 22, 8
LAUNCHES_OF_HEAD = 4
"""Kernels that a compiled pass of the head is taken to have; two of them take time on an H200."""
TEXT_BATCH, LENGTH, SYMBOLS = 8, 256, 300
TEXT = Absorbing(vocab_size=SYMBOLS, noise=LogLinear())
TEXT_SAMPLERS: tuple[Sampler, ...] = (
    Tweedie(),
    Euler(),
    TauLeaping(),
    KGillespie(),
    MultistepKGillespie(),
)
Case = tuple[str, Sampler, Callable[..., object]]
"""The kernel's name, the sampler, and a run of it with a generator."""
SILENT = {"empty", "empty_like", "empty_strided", "new_empty", "detach", "alias", "_unsafe_view"}
WAITS = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive"}
ACROSS = {"_to_copy", "copy_", "index", "index_put", "index_put_"}
"""Operations that take tensors of two devices: copies, and selections by indices on the CPU."""


class OnDevice(Tensor):
    """A tensor that is said to be on the GPU."""

    values: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnDevice":
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )
        made.values = values
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} outside of Counting")


class DeviceGenerator(torch.Generator):
    """A generator that is said to be on the GPU."""

    device = DEVICE


class Counting(TorchDispatchMode):
    """Counts operations by name, and those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wrapped = {id(part.values): part for part in on_device((args, kwargs))}
        asked = kwargs.get("device")
        there = bool(wrapped) if asked is None else torch.device(asked).type in ("cuda", "meta")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        name = func.overloadpacket.__name__
        if wrapped and name not in ACROSS and any(on_cpu((args, kwargs))):
            raise RuntimeError(f"{func} of tensors on two devices")
        if (
            name == "_to_copy"
            and wrapped
            and there
            and kwargs.get("dtype") in (None, args[0].dtype)
        ):
            return args[0]
        background = bool(kwargs.get("non_blocking"))
        crossing = name == "_to_copy" and bool(wrapped) != there and not background
        crossing |= name == "copy_" and len(wrapped) == 1 and not waits_not(args, kwargs)
        mask = name in ("index", "index_put_", "index_put") and any(
            part.dtype == torch.bool for part in on_device(args[1])
        )
        repeats = name == "repeat_interleave" and kwargs.get("output_size") is None
        if (wrapped or there) and not self.paused:
            silent = func.is_view or name in SILENT or name == "_local_scalar_dense"
            self.launches[name] += not silent
            self.waits[name] += name in WAITS or crossing or mask or repeats
        out = func(*tree_map(values_of, args), **tree_map(values_of, kwargs))
        if not there:
            return out

        def placed(part: Any) -> Any:
            if not isinstance(part, Tensor):
                return part
            return wrapped[id(part)] if id(part) in wrapped else OnDevice(part)

        return tree_map(placed, out)


def waits_not(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a copy is made in the background."""
    return bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))


def on_device(tree: Any) -> Iterator[OnDevice]:
    return (part for part in tree_iter(tree) if isinstance(part, OnDevice))


def on_cpu(tree: Any) -> Iterator[bool]:
    """Of each tensor that is not on the GPU, whether it is more than one number."""
    return (
        part.ndim > 0
        for part in tree_iter(tree)
        if isinstance(part, Tensor) and not isinstance(part, OnDevice)
    )


def values_of(part: Any) -> Any:
    return part.values if isinstance(part, OnDevice) else part


class StandIn:
    """Location and log-scale of each site, the same at every call; a head of one launch."""

    reads_site_mask = True

    def __init__(self, counting: Counting) -> None:
        config = UNetConfig(shape=SHAPE, channels=32, multipliers=(1,), symmetric=True)
        self.posterior, self.counting = UNetPosterior(UNet(config)).eval(), counting
        self.posterior.head = self.compiled(log_probabilities, launches=1)
        generator = torch.Generator().manual_seed(0)
        location = torch.rand(BATCH * math.prod(SHAPE), generator=generator) - 0.5
        self.rows = OnDevice(torch.stack([location, torch.full_like(location, -1.0)], 1))

    def compiled(
        self, function: Callable[..., Any], launches: int = LAUNCHES_OF_HEAD
    ) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.counting.launches["head"] += launches
            self.counting.paused = True
            out = function(*args)
            self.counting.paused = False
            return out

        return run

    def __call__(self, x: Tensor, t: Time, where: SiteMask | None = None) -> Tensor:
        return self.posterior.read(self.at(where))

    def evaluate(self, x: Tensor, t: float, where: SiteMask) -> Evaluation:
        passes = (self.compiled(each) for each in (weighted_draw, weighted_masses))
        return Evaluation(self.at(where), where, CompiledHead(self.posterior, *passes))

    def at(self, where: SiteMask | None) -> Tensor:
        return selected(self.rows.unflatten(0, (BATCH, -1)), where)


class TextStandIn:
    """The same logits of each site at every call."""

    reads_site_mask = True

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = OnDevice(torch.randn(TEXT_BATCH, LENGTH, SYMBOLS, generator=generator))

    def __call__(self, x: Tensor, t: Time, where: SiteMask | None = None) -> Tensor:
        time_tensor(t, x.device)
        return selected(self.logits, where)


@contextmanager
def pretended_device() -> Iterator[None]:
    """PyTorch without CUDA refuses its name before an operation is counted."""
    with (
        mock.patch("torch.cuda._lazy_init", return_value=None),
        mock.patch("torch.cuda.Event"),
        mock.patch("torch.cuda.current_stream"),
    ):
        yield


def of_images(counting: Counting) -> Iterator[Case]:
    shape = (BATCH, math.prod(SHAPE))
    for (kernel, forward), sampler in product(KERNELS.items(), SAMPLERS):
        reverse = PosteriorReverse(forward, StandIn(counting))
        yield kernel, sampler, partial(simulate, reverse, sampler, uniform(STEPS), shape)


def of_text(counting: Counting) -> Iterator[Case]:
    reverse, shape = PosteriorReverse(TEXT, TextStandIn()), (TEXT_BATCH, LENGTH)
    counts = CountSchedule([LENGTH // STEPS] * STEPS, order=Spread())
    for sampler in TEXT_SAMPLERS:
        schedule = counts if sampler.takes is CountSchedule else uniform(STEPS)
        yield TEXT.name, sampler, partial(simulate, reverse, sampler, schedule, shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--operations", action="store_true", help="print them by name")
    args = parser.parse_args()
    rows, counting = [], Counting()
    for kernel, sampler, run in chain(of_images(counting), of_text(counting)):
        generator = DeviceGenerator()
        generator.manual_seed(0)
        with torch.no_grad(), pretended_device(), counting:
            for _ in range(2):  # The first batch makes the tables of the kernel's times.
                counting.launches.clear()
                counting.waits.clear()
                run(generator=generator)
        launches, waits = counting.launches.total() / STEPS, counting.waits.total() / STEPS
        row = {"kernel": kernel, "sampler": sampler.name, "launches": launches, "waits": waits}
        rows.append(row)
        print(f"{kernel:9} {sampler.name:21} launches {launches:6.1f}, waits {waits:5.1f}")
        if args.operations:
            for name, count in counting.launches.most_common():
                waits = counting.waits[name] / STEPS
                print(f"    {name:28} {count / STEPS:6.2f} {waits:6.2f}")
            print({k: v / STEPS for k, v in counting.waits.items() if v})
    write_json(args.out, {"torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()

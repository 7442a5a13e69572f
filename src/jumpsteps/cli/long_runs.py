"""Runs that continue where they were stopped: what was asked, and the folder that keeps samples.

The folder lies beside the output, with ``.parts`` after its name, and is removed when the output is
written.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from jumpsteps.cli.inputs import batch_size
from jumpsteps.cli.named import is_search
from jumpsteps.cli.named_schedules import stored_schedule
from jumpsteps.cli.names import FIXED, SHIPPED
from jumpsteps.cli.options import CompareOptions, SampleOptions
from jumpsteps.cli.your_own import is_own, module_file
from jumpsteps.core.distributed import ALONE, Workers
from jumpsteps.core.progress import Progress
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.models import LoadedModel
from jumpsteps.models.loaded import SCHEDULES_FILE, file_hash
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.batches import draw_samples
from jumpsteps.sampling.run_folder import RunFolder, Samples
from jumpsteps.schedules.files import load_schedules, save_schedules, schedule_to_json
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.version import __version__

__all__ = ["compare_request", "kept_run", "kept_schedules", "sample_and_keep", "sample_request"]


@contextmanager
def kept_run(
    out: Path, request: Mapping[str, Any], workers: Workers = ALONE
) -> Iterator[RunFolder]:
    """The folder that keeps the samples of a run, of all its processes, until ``out`` is written.

    It says beforehand that an ``out`` which is there will be replaced.

    Raises:
        ValueError: it holds a run of another request, or another program has it.
        OSError: nothing can be written there.
        KeyboardInterrupt: says how to continue.
    """
    folder = RunFolder(out.with_name(out.name + ".parts"), request, workers=workers)
    if out.exists() and workers.is_first:
        text = f"note: {out} is there, and this run replaces it; to keep it name another with -o"
        print(text, file=sys.stderr)
    try:
        yield folder
    except BaseException as error:
        kept = folder.close()
        if folder.path.exists() and isinstance(error, KeyboardInterrupt):
            message = f"{kept} samples are kept in {folder.path}; run the same command to continue"
            raise KeyboardInterrupt(message) from None
        raise
    folder.remove()


def sample_and_keep(
    folder: RunFolder,
    options: SampleOptions,
    model: LoadedModel,
    sampler: Sampler,
    schedule: Schedule | None,
    given: Given | None,
    device: torch.device,
    workers: Workers,
) -> Samples:
    """The samples of ``jumpsteps sample``, without drawing those that the folder has; in the first
    process all, in the others none.
    """
    parts, tally = folder.parts(options.n), workers.tally("samples")
    with Progress(
        "sampling", "samples", options.n, shown=True, done=parts.done, tally=tally
    ) as progress:
        return draw_samples(
            model.reverse,
            sampler,
            schedule,
            (options.n, model.length),
            generator=SampleGenerators(options.seed, range(options.n), device),
            batch=batch_size(options.batch, device),
            given=given,
            parts=parts,
            progress=progress,
            workers=workers,
        )


def kept_schedules(
    folder: RunFolder, name: str, find: Callable[[], dict[int, Schedule]], workers: Workers
) -> dict[int, Schedule]:
    """The schedules of this name, found now or before the run was stopped.

    Only those of a search are kept. Of all others the request has hashes, and a mistake in them
    leaves no folder behind.
    """
    if not is_search(name):
        return find()
    path = folder.path / f"schedules-{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    if workers.of_first(float(path.exists()), torch.device("cpu")) > 0:
        return load_schedules(path)
    found = find()
    if not workers.is_first:
        return found
    save_schedules(path, found)
    return load_schedules(path)


def sample_request(
    options: SampleOptions,
    model: LoadedModel,
    device: torch.device,
    sampler: Sampler,
    schedule: Schedule | None,
    given: Given | None,
) -> dict[str, Any]:
    """All that decides the samples of ``jumpsteps sample``, as JSON."""
    named = called(options.schedule or SHIPPED, model)
    return {
        **common_request(options, model, device, given),
        "sampler": options.sampler,
        "order": options.order,
        "temperature": options.temperature,
        "number of model calls": options.nfe,
        "number of corrections": options.corrector.corrections,
        "name of the schedule": options.schedule,
        "set of schedules": {} if schedule is None else {named: hash_of([schedule])},
        "sampler with its parameters": repr(sampler),
    }


def compare_request(
    options: CompareOptions, model: LoadedModel, device: torch.device, given: Given | None
) -> dict[str, Any]:
    """All that decides the samples of ``jumpsteps compare``, as JSON."""
    search = options.search
    files = [name for name in (search.data, search.text) if name is not None]
    stored = {
        called(name, model): hash_of([stored_schedule(name, nfe, model) for nfe in search.nfe])
        for name in options.schedules
        if name not in FIXED and not is_search(name)
    }
    return {
        **common_request(options, model, device, given),
        "sampler": options.sampler,
        "order": options.order,
        "list of schedules": list(options.schedules),
        "list of NFEs": list(search.nfe),
        "number of sequences": search.sequences,
        "measure": search.measure,
        "data": search.data,
        "text": search.text,
        "column": search.column,
        "set of schedules": stored,
        "set of files": {name: file_hash(Path(name)) for name in files if Path(name).is_file()},
    }


def called(name: str, model: LoadedModel) -> str:
    """What a message calls schedules of this name."""
    return f"{SCHEDULES_FILE} of {model.name}" if name == SHIPPED else name


def hash_of(schedules: Iterable[Schedule]) -> str:
    """SHA-256 of schedules and their provenance, in hexadecimal."""
    content = json.dumps([schedule_to_json(0, schedule) for schedule in schedules])
    return hashlib.sha256(content.encode()).hexdigest()


def common_request(
    options: SampleOptions | CompareOptions,
    model: LoadedModel,
    device: torch.device,
    given: Given | None,
) -> dict[str, Any]:
    """What samples of either command depend on; not the batch."""
    observed = None
    if given is not None:
        arrays = (given.tokens.cpu().numpy(), given.mask.cpu().numpy())
        observed = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    searches = options.schedules if isinstance(options, CompareOptions) else ()
    named = [one for one in (options.sampler, options.order, *searches) if one is not None]
    files = {one: module_file(one) for one in named if is_own(one)}
    modules = {one: file_hash(file) for one, file in files.items() if file is not None}
    return {
        **({"set of modules": modules} if modules else {}),
        "model": {options.model.name: model.digest},
        "length": model.length,
        "seed": options.seed,
        "number of samples": options.n,
        "set of observed sites": observed,
        "dtype": options.model.dtype,
        "--compile": options.model.compile,
        "device": device.type,
        "version of jumpsteps": __version__,
        "version of torch": torch.__version__,
    }

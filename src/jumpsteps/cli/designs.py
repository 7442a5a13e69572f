"""Designs: templates with gaps, and files of sequences with the NLL of each."""

from pathlib import Path

import torch
from torch import Tensor

from jumpsteps.cli.sequence_files import given_template
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.any_order import any_order_nll
from jumpsteps.models import LoadedModel

__all__ = ["is_sequence_file", "sized_for_template", "template_sites", "write_designs"]

EVALUATIONS = 16
"""Model evaluations for the NLL of a design."""


def template_sites(model: LoadedModel, template: str) -> Given:
    """The sites that a template observes, [L], on the CPU.

    Raises:
        ValueError: a model without templates; as the task's ``read_template`` or
            ``given_template``.
    """
    if model.task is not None and model.task.read_template is not None:
        return model.task.read_template(template)
    if model.text is not None:
        return given_template(template, model.text)
    raise ValueError(
        f"--template is a text or a sequence of residues with gaps, and {model.name!r} is a model "
        "of neither; observe sites with --given"
    )


def sized_for_template(model: LoadedModel, template: str, length: int | None) -> LoadedModel:
    """The model for sequences as long as the template.

    Args:
        length: of ``--length``.

    Raises:
        ValueError: as ``template_sites``; a ``length`` that contradicts the template, or one that
            the model does not allow.
    """
    sites = len(template_sites(model, template).mask)
    what = "residues" if model.text is None else "tokens"
    if length not in (None, sites):
        raise ValueError(f"the template has {sites} {what}, and --length is {length}; pass one")
    if sites == model.length:
        return model
    if model.resized is not None:
        return model.resized(sites)
    raise ValueError(
        f"the template has {sites} {what}, and {model.name!r} is for {model.length}; make gaps "
        f"longer with [MASK N], or pass --length {sites} if it is a masked language model"
    )


def is_sequence_file(file: Path, model: LoadedModel) -> bool:
    """Whether the task writes all samples into a file of this name."""
    return model.task is not None and file.suffix.lower() in model.task.file_suffixes


def write_designs(
    file: Path, model: LoadedModel, samples: Tensor, nfe: int, given: Given | None, batch: int
) -> None:
    """Write samples int64 [n, L] with the NLL of each in its header, and print a summary.

    The NLL is the any-order bound of the designed sites given the others, in nats, under the model
    (``any_order_nll``). Its random sets of sites are the same for all samples and in all runs.
    """
    task = model.task
    if task is None or task.write_file is None:
        raise ValueError(f"{model.name!r} has no file format of its own; name a .npz file")
    mask = None if given is None else given.mask
    nll = any_order_nll(
        model.reverse,
        samples,
        given_mask=mask,
        evaluations=EVALUATIONS,
        common=True,
        batch=batch,
        generator=torch.Generator().manual_seed(0),
        progress=True,
    )
    free = samples.shape[1] if mask is None else (~mask.expand(samples.shape)).sum(-1)
    counts = torch.as_tensor(free).expand(len(samples)).tolist()
    digits = len(str(len(samples)))
    rest = ["" if count == samples.shape[1] else " given the rest" for count in counts]
    headers = [
        f"design-{i:0{digits}d} nll={value:.2f} nats of {count} residues{given_rest} "
        f"(any-order bound, K={EVALUATIONS}, seed 0); NFE {nfe}"
        for i, (value, count, given_rest) in enumerate(
            zip(nll.tolist(), counts, rest, strict=True), 1
        )
    ]
    task.write_file(file, samples.cpu(), headers)
    print(task.show(samples[0].cpu()))
    distinct = len(torch.unique(samples, dim=0))
    print(f"{len(samples)} designs, {distinct} distinct; mean NLL {float(nll.mean()):.2f} nats")
    print(f"{nfe} model calls each; written to {file}")

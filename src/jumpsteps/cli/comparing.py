"""``jumpsteps compare``."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from jumpsteps.cli.built_in_schedules import compared_by_default
from jumpsteps.cli.inputs import (
    batch_size,
    load_model,
    observed_in_samples,
    samples_by_default,
    seeded,
)
from jumpsteps.cli.long_runs import compare_request, kept_run, kept_schedules
from jumpsteps.cli.measuring import measures_of_data, metric_named, print_measures, reference_data
from jumpsteps.cli.named import is_search, sampler_named
from jumpsteps.cli.named_schedules import check_schedule_names
from jumpsteps.cli.options import CompareOptions
from jumpsteps.cli.outputs import json_file, output_file, picture_file
from jumpsteps.cli.reporting import EXAMPLES, calibration_on_data, report_file, save_comparison
from jumpsteps.cli.searches import schedules_named
from jumpsteps.cli.summaries import search_effort
from jumpsteps.core.distributed import Workers
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.evaluation.calibration import CalibrationCurve
from jumpsteps.evaluation.compare import compare
from jumpsteps.evaluation.plots import plot_comparison
from jumpsteps.evaluation.report import table
from jumpsteps.models import LoadedModel
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.schedules.schedule import Schedule
from jumpsteps.search.doubts import doubt_calibration

__all__ = ["compare_command"]


def compare_command(options: CompareOptions, device: torch.device, workers: Workers) -> None:
    page = report_file(output_file(options.out))
    out = json_file(options.out, "results")
    picture = None if options.picture is None else picture_file(options.picture)
    check_schedule_names(options.schedules)
    sampler = sampler_named(options.sampler, options.order)
    model = load_model(options.model, device, options.observed.template)
    if not options.schedules:
        names = compared_by_default(model, options.search.nfe, sampler, options.order)
        options = replace(options, schedules=names)
    n = options.n or samples_by_default(model, device, said=workers.is_first)
    options = replace(options, n=n)
    reference = reference_data(model, options, n, device)
    metric = metric_named(model, options.metric, options.evaluator, reference, device)
    given = observed_in_samples(model, options.observed, device, n)
    request = compare_request(options, model, device, given)
    with kept_run(out, request, workers) as folder:
        schedules = {
            name: kept_schedules(
                folder,
                name,
                partial(compared_schedules, options, name, model, given, device, workers),
                workers,
            )
            for name in dict.fromkeys(options.schedules)
        }
        curve = calibration(options, model, schedules, device) if workers.is_first else None
        rows = compare(
            model.reverse,
            sampler,
            schedules,
            (n, model.length),
            metric=metric.measure,
            unit=metric.unit,
            beside=metric.beside,
            seed=options.seed + 1,
            device=device,
            batch=batch_size(options.batch, device),
            given=given,
            examples=EXAMPLES,
            folder=folder,
            progress=True,
            workers=workers,
        )
        if not workers.is_first:
            return
        of_data = measures_of_data(metric, reference)
        about = facts(options, model, schedules) | metric.facts | {"data_measures": of_data}
        save_comparison(out, rows, about, model, schedules, curve, device)
        if picture is not None:
            title = f"{options.model.name}, {n} samples"
            plot_comparison(
                picture, rows, metric_name=metric.name, percent=metric.percent, title=title
            )
    print(table(rows, metric.name, percent=metric.percent))
    print_measures(rows, metric, of_data)
    for name in filter(is_search, schedules):
        print(f"{name}: {search_effort(schedules[name])} for all its schedules")
    print(f"written to {out}, and as a page to {page}")


def compared_schedules(
    options: CompareOptions,
    name: str,
    model: LoadedModel,
    given: Given | None,
    device: torch.device,
    workers: Workers,
) -> dict[int, Schedule]:
    """The schedules of this name that a comparison samples by."""
    return schedules_named(
        name,
        model,
        options.search,
        options.observed,
        given,
        sampler=sampler_named(options.sampler, options.order),
        order=options.order,
        generator=seeded(options.seed, device),
        progress=True,
        workers=workers,
    )


def calibration(
    options: CompareOptions,
    model: LoadedModel,
    schedules: Mapping[str, Mapping[int, Schedule]],
    device: torch.device,
) -> CalibrationCurve | None:
    """The model's calibration on data, for the report; warns where it is far off, as a search does.

    Searches that measured by data have said it themselves.
    """
    curve = calibration_on_data(model, options.search, options.observed, options.seed, device)
    found = [one for each in schedules.values() for one in each.values()]
    told = any(one.provenance.few_step_nll is not None for one in found)
    if curve is not None and not told and model.reverse.forward.name == Absorbing.name:
        doubt_calibration(curve.levels[::2])
    return curve


def facts(
    options: CompareOptions, model: LoadedModel, schedules: Mapping[str, Mapping[int, Schedule]]
) -> dict[str, Any]:
    """What the file of results says beside its rows."""
    calls = {
        name: next(iter(found.values())).provenance.model_calls for name, found in schedules.items()
    }
    return {
        "command": options.command_line,
        "model": options.model.name,
        "samples": options.n,
        "sampler": options.sampler,
        "order": options.order,
        "seed": options.seed,
        "prompt": options.observed.prompt,
        "suffix": options.observed.suffix,
        "given": options.observed.given,
        "template": options.observed.template,
        "sequences": options.search.sequences,
        "search_calls": calls,
    }

"""The commands, each a function of its options."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from jumpsteps.cli.built_in_schedules import schedule_of_model
from jumpsteps.cli.colouring import coloured_file, write_coloured
from jumpsteps.cli.correcting import corrector_plans, steps_without, with_corrector
from jumpsteps.cli.demo import run_demo
from jumpsteps.cli.designs import is_sequence_file, write_designs
from jumpsteps.cli.inputs import (
    batch_size,
    device_named,
    load_model,
    observed_in_samples,
    search_data,
    seeded,
)
from jumpsteps.cli.long_runs import (
    kept_run,
    sample_and_keep,
    sample_request,
)
from jumpsteps.cli.named import sampler_named, sampler_of
from jumpsteps.cli.named_schedules import check_schedule_names, schedule_named
from jumpsteps.cli.names import pick
from jumpsteps.cli.options import (
    DemoOptions,
    ExplainOptions,
    OptimizeOptions,
    SampleOptions,
    TrainOptions,
)
from jumpsteps.cli.outputs import (
    json_file,
    note_replaced,
    output_folder,
    picture_file,
    sample_files,
    text_file,
    write_samples,
)
from jumpsteps.cli.racing import race_schedules, recommendation
from jumpsteps.cli.searches import method_asked, method_in_blocks, schedules_named, search
from jumpsteps.cli.summaries import certificate_note, print_schedule, search_effort
from jumpsteps.core.distributed import Workers, launch_of
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.temperature import tempered
from jumpsteps.evaluation.plots import plot_error_curve
from jumpsteps.models import LoadedModel
from jumpsteps.models.loaded import hashed_by_first
from jumpsteps.models.sharding import shard_model
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.files import save_schedules
from jumpsteps.schedules.schedule import Schedule, TimeSchedule
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.explain import explain
from jumpsteps.search.explain_counts import explain_counts
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.training.recipes import RECIPES, train_recipe
from jumpsteps.training.text_recipe import text_recipe, text_tokenizer

__all__ = [
    "demo_command",
    "explain_command",
    "optimize_command",
    "sample_command",
    "train_command",
]


def demo_command(options: DemoOptions) -> None:
    out, device = output_folder(options.out), device_named(options.device)
    picture_file(str(out / "comparison.png"))
    command = sys.argv[0] if Path(sys.argv[0]).name == "jumpsteps" else "jumpsteps"
    run_demo(out, device, command=command, progress=True)


def optimize_command(options: OptimizeOptions, device: torch.device, workers: Workers) -> None:
    out = json_file(options.out, "schedules")
    curve = None if options.curve is None else picture_file(options.curve)
    method = None
    if options.block_size is None:
        method = method_asked(options.method, options.order)
    has_costs = method is None or isinstance(method, ShortestPath | AutoOrder)
    if method is not None and options.search.measure is not None and not has_costs:
        raise ValueError(
            f"method {method.name} has no costs to measure; leave out --measure, or use "
            "--method shortest-path"
        )
    sampler = sampler_named(options.sampler, options.order)
    model = load_model(options.model, device, options.observed.template)
    if workers.is_first:
        note_replaced(out, model.name, options.search.nfe)
    if options.block_size is not None:
        method = method_in_blocks(options.method, options.order, options.block_size, model.length)
    if options.racing.race is not None or options.corrector is not None:
        if options.corrector is not None:
            found = corrector_plans(options, model, device, workers)
        else:
            found = race_schedules(options, model, device, sampler, workers)
        if not workers.is_first:
            return
        save_schedules(out, found)
        for nfe, schedule in found.items():
            print_schedule(nfe, schedule)
        print(f"written to {out}")
        return
    found = search(
        model,
        method,
        options.search,
        options.observed,
        sampler=sampler,
        generator=seeded(options.seed, device),
        tolerance=options.tolerance,
        progress=True,
        workers=workers,
    )
    if not workers.is_first:
        return
    save_schedules(out, found)
    if curve is not None:
        plot_error_curve(curve, found, title=options.model.name)
    for nfe, schedule in found.items():
        print_schedule(nfe, schedule)
    print(f"{search_effort(found)}; written to {out}")
    if sampler is not None and sampler.schedules_of is not sampler:
        text = f"the file names {sampler.schedules_of.name}"
        print(f"note: {text}; pass --sampler {sampler.name} to sample", file=sys.stderr)
    certificate_note(found)
    if (advice := recommendation(model)) is not None:
        print(advice)


def sample_command(options: SampleOptions, device: torch.device, workers: Workers) -> None:
    sampler = sampler_named(options.sampler, options.order)
    if options.shard_model:
        with hashed_by_first(workers):
            model = load_model(options.model, torch.device("meta"), options.observed.template)
        model, workers = shard_model(model, device, workers)
    else:
        model = load_model(options.model, device, options.observed.template)
    file, write = sample_files(options.out, model)
    if model.text is not None:
        text_file(file)
    page = coloured_file(file, model) if options.colour else None
    given, schedule = observed_in_samples(model, options.observed, device, options.n), None
    if sampler is None or sampler.takes is not None:
        if options.nfe is None:
            raise ValueError("this sampler follows a schedule; pass the model calls with --nfe")
        nfe = steps_without(options.corrector, options.nfe)
        schedule = schedule_asked(options, nfe, model, given, sampler)
        if schedule.redraws:
            sampler = sampler or default_sampler(schedule)
        sampler = sampler or sampler_of(schedule)
        sampler = with_corrector(sampler, options.corrector)
    elif options.schedule not in (None, "uniform") or (
        (options.nfe, options.corrector.corrections) != (None, None)
    ):
        raise ValueError(
            f"sampler {sampler.name} chooses its own steps; leave out --nfe and --schedule, and "
            "--corrections"
        )
    request = sample_request(options, model, device, sampler, schedule, given)
    with kept_run(file, request, workers) as folder:
        drawn = replace(model, reverse=tempered(model.reverse, options.temperature))
        made = sample_and_keep(folder, options, drawn, sampler, schedule, given, device, workers)
        if not workers.is_first:
            return
        if is_sequence_file(file, model):
            batch = batch_size(options.batch, device)
            write_designs(file, model, made.samples, made.nfe, given, batch)
            return
        write_samples(file, write, model, made.samples, made.nfe, given)
        if page is not None:
            write_coloured(page, model, made.samples, made.step_map, given)


def schedule_asked(
    options: SampleOptions,
    nfe: int,
    model: LoadedModel,
    given: Given | None,
    sampler: Sampler | None,
) -> Schedule:
    """The schedule that ``--schedule`` names, or without it the model's own."""
    if options.schedule is None:
        return schedule_of_model(nfe, model, given, sampler=sampler, order=options.order)
    return schedule_named(options.schedule, nfe, model, given, sampler=sampler, order=options.order)


def explain_command(options: ExplainOptions) -> None:
    check_schedule_names(options.schedules)
    device = device_named(options.model.device)
    sampler = sampler_named(options.sampler, options.order)
    model = load_model(options.model, device, options.observed.template)
    schedules: dict[str, Schedule] = {}
    for name in dict.fromkeys(options.schedules):
        found = schedules_named(
            name,
            model,
            options.search,
            options.observed,
            None,
            sampler=sampler,
            order=options.order,
            generator=seeded(options.seed, device),
            progress=True,
        )
        schedules |= {f"{name}, {nfe} steps": found[nfe] for nfe in options.search.nfe}
    generator = seeded(options.seed, device)
    tokens, given_mask, data = search_data(model, options.search, options.observed, generator)
    forward = model.reverse.forward
    paths = Paths.draw(forward, tokens, generator=generator, given_mask=given_mask)
    print(
        f"{options.model.name}: {forward.name} kernel, {forward.noise!r}, "
        f"{options.search.sequences} sequences of {data}"
    )
    print("errors in nats per sequence ± standard error")
    times = [schedule for schedule in schedules.values() if isinstance(schedule, TimeSchedule)]
    explained = iter(
        explain(model.reverse, paths, times, sampler=sampler or Tweedie(), generator=generator)
        if times
        else ()
    )
    for name, schedule in schedules.items():
        explanation = (
            next(explained)
            if isinstance(schedule, TimeSchedule)
            else explain_counts(
                model.reverse, paths, schedule.rescaled(paths.sites), generator=generator
            )
        )
        print(f"\n{name}\n{explanation}")


def train_command(options: TrainOptions) -> None:
    recipe = pick("recipe", options.recipe, RECIPES)
    of_text = recipe.task == "text"
    if of_text:
        recipe = text_recipe(options.tokenizer, options.column)
    elif options.tokenizer is not None:
        raise ValueError(f"the recipe {options.recipe} has no text; leave out --tokenizer")
    device, out = device_named(options.device), output_folder(options.out)
    done = train_recipe(
        recipe,
        out,
        device,
        data=None if options.data is None else Path(options.data),
        steps=options.steps,
        batch=options.batch,
        warmup=options.warmup,
        max_minutes=options.max_minutes,
        finish=options.finish,
        start_from=None if options.start_from is None else Path(options.start_from),
        from_step=options.from_step,
        resume=options.resume,
        cuda_graph=options.cuda_graph,
        bf16_reduce=options.bf16_reduce,
        save_every=options.save_every,
        from_scratch=options.from_scratch,
        progress=True,
    )
    if of_text and launch_of(os.environ).rank == 0:
        text_tokenizer(options.tokenizer).save_pretrained(out)
    state = "finished" if done else "stopped early; run the same command to continue"
    print(f"{state}; checkpoint in {out}")

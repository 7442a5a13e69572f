"""A scheduler for loops and pipelines of Hugging Face diffusers, with jumpsteps' schedules.

    scheduler = JumpStepsScheduler.from_reverse(model.reverse, schedules)
    scheduler.set_timesteps(8)
    x = scheduler.sample_prior((4, model.length), generator=generator)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, generator=generator).prev_sample

Timesteps are times t in (0, 1], where 1 is noise. With the same generator the samples are those of
``simulate``. To condition on observed tokens, put them back into x before the loop and after every
step, as ``simulate`` does.

Needs the extra ``diffusers``. Shapes: sample int64 [B, L]; model output [B, L, V].
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from jumpsteps.denoiser.model import Evaluation
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.denoiser.reverse import ReverseProcess, time_of_sites
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import Time
from jumpsteps.process.serialise import forward_from_json, forward_to_json
from jumpsteps.sampling.ancestral import ReMDM
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Euler, TauLeaping, Tweedie
from jumpsteps.schedules.files import read_schedule, schedule_to_json
from jumpsteps.schedules.fixed import cosine, uniform
from jumpsteps.schedules.schedule import Schedule, Step, TimeSchedule

try:
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
except ImportError as error:
    raise ImportError(
        f"jumpsteps.integrations.diffusers needs diffusers ({error}): "
        "pip install 'jumpsteps[diffusers]'"
    ) from error

__all__ = ["JumpStepsScheduler"]

SAMPLERS: dict[str, type[Sampler]] = {
    "tweedie": Tweedie,
    "euler": Euler,
    "tau-leaping": TauLeaping,
    "remdm": ReMDM,
}
"""Samplers that follow times and whose step is one model call, at x_t and t, for all sequences."""

OUTPUTS: dict[str, type[ReverseProcess]] = {
    "posterior": PosteriorReverse,
    "log-score": LogScoreReverse,
    "leave-one-out": LeaveOneOutReverse,
}
"""How a model output is read."""

SPACINGS = {"uniform": uniform, "cosine": cosine}
"""Fixed times, for numbers of steps without an optimised schedule."""


class JumpStepsScheduler(SchedulerMixin, ConfigMixin):
    """The sampling steps of a discrete diffusion model; make one with ``from_reverse``.

    Args:
        kernel: type and settings, such as {"type": "absorbing", "vocab_size": 5, "mask_id": 4}.
        noise: type and settings of the noise schedule, such as {"type": "LogLinear", "eps": 1e-3}.
        sampler: type (a key of ``SAMPLERS``) and settings; by default Tweedie's.
        output: what the model gives. "posterior": logits of p(x_0 | x_t); "log-score":
            log p_t(y)/p_t(x); "leave-one-out": logits of the distribution that replaces x_0.
        schedules: optimised times, an entry for each number of steps, as in a file of schedules.
        timestep_spacing: "uniform" or "cosine", for numbers of steps that ``schedules`` does not
            hold; None to refuse them.

    Attributes:
        timesteps: float64 [N], the times of the run, set by ``set_timesteps``.

    Raises:
        ValueError: an unknown kernel, noise, sampler, output or spacing, or unknown settings; a
            sampler that does not serve the kernel; schedules that are damaged, that hold counts
            instead of times, or that are for another kernel or noise.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        kernel: dict[str, Any],
        noise: dict[str, Any],
        sampler: dict[str, Any] | None = None,
        output: str = "posterior",
        schedules: list[dict[str, Any]] | None = None,
        timestep_spacing: str | None = None,
    ) -> None:
        try:
            self.forward = forward_from_json(kernel, noise)
            self.sampler = build_sampler(sampler or {"type": Tweedie.name})
            self.schedules = {
                int(entry["nfe"]): read_times(entry, self.forward) for entry in schedules or []
            }
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"the scheduler's config is damaged: {error!r}; make it with "
                "JumpStepsScheduler.from_reverse"
            ) from None
        self.sampler.check(self.forward)
        for name, value, known in (
            ("output", output, [*OUTPUTS]),
            ("timestep_spacing", timestep_spacing, [None, *SPACINGS]),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        self.schedule: TimeSchedule | None = None
        self.num_inference_steps: int | None = None
        self.timesteps: Tensor | None = None

    @classmethod
    def from_reverse(
        cls,
        reverse: ReverseProcess,
        schedules: Mapping[int, Schedule] | None = None,
        *,
        sampler: Sampler | None = None,
        timestep_spacing: str | None = None,
    ) -> Self:
        """The scheduler with the kernel, noise and output of ``reverse``, without its network.

        Args:
            schedules: by number of model calls, as from ``optimize_schedule`` or ``ScheduleSet``.
            sampler: by default Tweedie's.
            timestep_spacing: see the class.

        Raises:
            ValueError: as the class; a kernel or a sampler that a config cannot hold.
        """
        kernel, noise = forward_to_json(reverse.forward)
        return cls(
            kernel=kernel,
            noise=noise,
            sampler=sampler_to_json(sampler or Tweedie()),
            output=next(
                (name for name, kind in OUTPUTS.items() if isinstance(reverse, kind)),
                type(reverse).__name__,
            ),
            schedules=[
                schedule_to_json(nfe, schedule)
                for nfe, schedule in sorted((schedules or {}).items())
            ],
            timestep_spacing=timestep_spacing,
        )

    def set_timesteps(
        self, num_inference_steps: int, device: str | torch.device | None = None
    ) -> None:
        """Choose the optimised times for this number of steps, else those of ``timestep_spacing``.

        Raises:
            ValueError: no schedule for this number, and no ``timestep_spacing``.
        """
        spacing = self.config.timestep_spacing
        if num_inference_steps in self.schedules:
            self.schedule = self.schedules[num_inference_steps]
        elif spacing is not None:
            self.schedule = SPACINGS[spacing](num_inference_steps)
        else:
            raise ValueError(
                f"the scheduler holds schedules for {sorted(self.schedules)} steps, not "
                f"{num_inference_steps}; choose one of these, optimise more, or make the scheduler "
                "with timestep_spacing='uniform' or 'cosine'"
            )
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.tensor(self.schedule.times[:-1], dtype=torch.float64, device=device)

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The sample itself, because tokens are not scaled."""
        return sample

    def sample_prior(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """x_1, the noise that a run starts from: int64, by default on the generator's device."""
        device = torch.device(device or (generator.device if generator else "cpu"))
        return self.forward.sample_prior(
            shape, generator=on_device(generator, device), device=device
        )

    @torch.no_grad()
    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """The step from x_t to x_s, where s is the next timestep, or 0 after the last one.

        Args:
            model_output: [B, L, V], the model at x_t and t; ``output`` of the config says of what.
            timestep: t, one of ``timesteps``.
            sample: x_t, int64 [B, L].
            generator: all random numbers; by default torch's global generator. A generator on
                another device seeds one on the sample's device.
            return_dict: False for a tuple.

        Returns:
            x_s as ``prev_sample``, int64 [B, L].

        Raises:
            ValueError: no timesteps set, a time that is none of them, or shapes that do not fit.
        """
        step = self.step_from(float(timestep))
        if (
            sample.dtype != torch.int64
            or sample.ndim != 2
            or model_output.shape[:-1] != sample.shape
        ):
            raise ValueError(
                "sample must be int64 [B, L] and model_output [B, L, V], got "
                f"{sample.dtype} {list(sample.shape)} and {list(model_output.shape)}"
            )
        evaluation = Evaluation.of_output(model_output)
        reverse = OUTPUTS[self.config.output](self.forward, evaluation)
        new, _, _ = self.sampler.step(
            reverse, sample, step, None, generator=on_device(generator, sample.device)
        )
        return SchedulerOutput(prev_sample=new) if return_dict else (new,)

    def step_from(self, t: float) -> Step:
        """The step of the run that starts at t, up to rounding of t to float32."""
        if self.schedule is None:
            raise ValueError("there are no timesteps; call set_timesteps first")
        step = min(self.schedule.plan(self.forward), key=lambda step: abs(step.t - t))
        if abs(step.t - t) > 1e-6 * step.t:
            raise ValueError(
                f"timestep {t} is none of this run's {self.num_inference_steps}; pass those of "
                "scheduler.timesteps"
            )
        return step

    def add_noise(
        self, original_samples: Tensor, timesteps: Time, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw x_t given x_0 by the forward process; the arguments are those of AmusedScheduler.

        Args:
            original_samples: x_0, int64 [B, L].
            timesteps: t, any times in [0, 1], not only those of a run: a number or [B].

        Raises:
            ValueError: tokens that data cannot hold, or times of another shape.
        """
        self.forward.check_data(original_samples, "original_samples")
        t = time_of_sites(timesteps, original_samples, None)
        return self.forward.sample_transition(
            original_samples, 0.0, t, generator=on_device(generator, original_samples.device)
        )


def on_device(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """The generator, or one seeded by it if it is on another kind of device.

    Without a generator, torch's global one is the seed.
    """
    if generator is not None and generator.device.type == device.type:
        return generator
    seed = torch.randint(
        2**63 - 1, (), generator=generator, device=generator.device if generator else None
    )
    return torch.Generator(device).manual_seed(int(seed))


def sampler_to_json(sampler: Sampler) -> dict[str, Any]:
    """Type and settings of a sampler, for the config.

    Raises:
        ValueError: a sampler that is not in ``SAMPLERS``.
    """
    for name, kind in SAMPLERS.items():
        if type(sampler) is kind:
            return {"type": name, **vars(sampler)}
    raise ValueError(
        f"sampler {sampler.name} cannot make a step from one model output and a time, which is all "
        f"that a step of diffusers gets; choose {', '.join(SAMPLERS)}"
    )


def build_sampler(content: Mapping[str, Any]) -> Sampler:
    """The sampler that ``sampler_to_json`` has written."""
    settings = dict(content)
    kind = settings.pop("type")
    if kind not in SAMPLERS:
        raise ValueError(
            f"unknown sampler {kind!r} for a step of diffusers; choose {', '.join(SAMPLERS)}"
        )
    return SAMPLERS[kind](**settings)


def read_times(entry: Mapping[str, Any], forward: ForwardProcess) -> TimeSchedule:
    """A schedule of times from its JSON entry; raises ValueError for counts, corrections or another
    kernel.
    """
    schedule = read_schedule(entry)
    if not isinstance(schedule, TimeSchedule):
        raise ValueError(
            f"the schedule for {entry['nfe']} steps has counts, and a step of diffusers follows "
            "times; use schedule.to_times(forward)"
        )
    if schedule.redraws:
        raise ValueError(
            f"the schedule for {entry['nfe']} steps has corrections, which a step of diffusers "
            "does not make; leave out the redraws"
        )
    schedule.check_kernel(forward, "the scheduler")
    return schedule

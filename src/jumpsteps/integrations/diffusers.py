"""A scheduler for loops and pipelines of Hugging Face diffusers, over this library's schedules and samplers.

    scheduler = JumpStepsScheduler.from_reverse(model.reverse, schedules)
    scheduler.set_timesteps(8)
    x = scheduler.sample_prior((4, model.length), generator=generator)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, generator=generator).prev_sample

Timesteps are times in (0, 1], 1 is noise. The samples are those of ``simulate`` with the same generator. To hold a prompt, put it
back into x before the loop and after every step, as ``simulate`` does.

Needs the extra ``diffusers``. Shapes: sample int64 [B, L]; model output [B, L, V].
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

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
        f"jumpsteps.integrations.diffusers needs diffusers ({error}): pip install 'jumpsteps[diffusers]'"
    ) from error

__all__ = ["JumpStepsScheduler"]

SAMPLERS: dict[str, type[Sampler]] = {
    "tweedie": Tweedie,
    "euler": Euler,
    "tau-leaping": TauLeaping,
    "remdm": ReMDM,
}
"""Those whose step is one model call at x_t for all sequences, along times."""

OUTPUTS: dict[str, type[ReverseProcess]] = {
    "posterior": PosteriorReverse,
    "log-score": LogScoreReverse,
    "leave-one-out": LeaveOneOutReverse,
}
SPACINGS = {"uniform": uniform, "cosine": cosine}


class JumpStepsScheduler(SchedulerMixin, ConfigMixin):
    """Steps of a discrete diffusion model, one ``step`` each; make one with ``from_reverse``.

    Args:
        kernel: type and settings, such as {"type": "absorbing", "vocab_size": 50258, "mask_id": 50257}.
        noise: type and settings of the noise schedule, such as {"type": "LogLinear", "eps": 0.001}.
        sampler: type (a key of ``SAMPLERS``) and settings; Tweedie's unless given.
        output: what the model gives: "posterior", logits of p(x0 | x_t); "log-score", log p_t(y)/p_t(x); or "leave-one-out", logits
            of the distribution that takes the place of x0.
        schedules: optimised times, one entry for each number of steps, as in a file of schedules.
        timestep_spacing: "uniform" or "cosine" for numbers of steps that ``schedules`` has none for; None to refuse them.

    Attributes:
        timesteps: float64 [N], the times of the run, as ``set_timesteps`` left them.

    Raises:
        ValueError: a kernel, noise, sampler, output or spacing that is not known, or settings that they do not have; a sampler that
            does not serve the kernel; schedules that are damaged, count jumps, or are for another kernel or noise.
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
                f"the scheduler's config is damaged: {error!r}; make it with JumpStepsScheduler.from_reverse"
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
        """The scheduler of a model: kernel, noise and kind of output are those of ``reverse``; its network is not kept.

        Args:
            schedules: by number of model calls, as ``optimize_schedule`` and ``ScheduleSet`` give them.
            sampler: Tweedie's unless given.
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
        """Choose the optimised times for this number of steps; without any, those of ``timestep_spacing``.

        Raises:
            ValueError: neither of them.
        """
        spacing = self.config.timestep_spacing
        if num_inference_steps in self.schedules:
            self.schedule = self.schedules[num_inference_steps]
        elif spacing is not None:
            self.schedule = SPACINGS[spacing](num_inference_steps)
        else:
            raise ValueError(
                f"the scheduler holds schedules for {sorted(self.schedules)} steps, not {num_inference_steps}; "
                "choose one of these, optimise for more, or make it with timestep_spacing='uniform' or 'cosine'"
            )
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.tensor(self.schedule.times[:-1], dtype=torch.float64, device=device)

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """The sample as it is: tokens are not scaled."""
        return sample

    def sample_prior(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Noise to start a run from, int64 of this shape; on the generator's device unless given."""
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
        """The step from this timestep to the next one; from the last to t = 0.

        Args:
            model_output: [B, L, V], at ``sample`` and ``timestep``; see ``output`` of the config.
            timestep: one of ``timesteps``.
            sample: int64 [B, L].
            generator: all randomness; torch's global generator unless given. One on another device seeds one on the sample's.
            return_dict: False for a tuple.

        Returns:
            The new sample as ``prev_sample``, int64 [B, L].

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
                f"sample must be int64 [B, L] and model_output [B, L, V], got {sample.dtype} {list(sample.shape)} and "
                f"{list(model_output.shape)}"
            )

        def model(x: Tensor, t: Time, where: Tensor | None = None) -> Tensor:
            return model_output if where is None else model_output[where]

        reverse = OUTPUTS[self.config.output](self.forward, model)
        new, _, _ = self.sampler.step(
            reverse, sample, step, None, generator=on_device(generator, sample.device)
        )
        return SchedulerOutput(prev_sample=new) if return_dict else (new,)

    def step_from(self, t: float) -> Step:
        """The step that starts at t, or at what float32 left of it."""
        if self.schedule is None:
            raise ValueError("there are no timesteps; call set_timesteps first")
        step = min(self.schedule.plan(self.forward), key=lambda step: abs(step.t - t))
        if abs(step.t - t) > 1e-6 * step.t:
            raise ValueError(
                f"timestep {t} is none of this run's {self.num_inference_steps}; pass those of scheduler.timesteps"
            )
        return step

    def add_noise(
        self, original_samples: Tensor, timesteps: Time, generator: torch.Generator | None = None
    ) -> Tensor:
        """The forward process: x_t given x0, as in ``AmusedScheduler`` without a tensor of noise.

        Args:
            original_samples: data, int64 [B, L].
            timesteps: any times in [0, 1], not only those of a run: a number or [B].

        Raises:
            ValueError: tokens that data cannot hold, or times of another shape.
        """
        self.forward.check_data(original_samples, "original_samples")
        t = time_of_sites(timesteps, original_samples, None)
        return self.forward.sample_transition(
            original_samples, 0.0, t, generator=on_device(generator, original_samples.device)
        )


def on_device(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """The generator if it is on this kind of device; else one there, seeded by it or by torch's global one."""
    if generator is not None and generator.device.type == device.type:
        return generator
    seed = torch.randint(
        2**63 - 1, (), generator=generator, device=generator.device if generator else None
    )
    return torch.Generator(device).manual_seed(int(seed))


def sampler_to_json(sampler: Sampler) -> dict[str, Any]:
    for name, kind in SAMPLERS.items():
        if type(sampler) is kind:
            return {"type": name, **vars(sampler)}
    raise ValueError(
        f"sampler {sampler.name} cannot make its steps from one model output for all sequences and the time, which is all that "
        f"a step of diffusers gets; choose {', '.join(SAMPLERS)}"
    )


def build_sampler(content: Mapping[str, Any]) -> Sampler:
    """The sampler of ``sampler_to_json``."""
    settings = dict(content)
    kind = settings.pop("type")
    if kind not in SAMPLERS:
        raise ValueError(
            f"unknown sampler {kind!r} for a step of diffusers; choose {', '.join(SAMPLERS)}"
        )
    return SAMPLERS[kind](**settings)


def read_times(entry: Mapping[str, Any], forward: ForwardProcess) -> TimeSchedule:
    schedule = read_schedule(entry)
    if not isinstance(schedule, TimeSchedule):
        raise ValueError(
            f"the schedule for {entry['nfe']} steps counts jumps, a step of diffusers follows times; use schedule.to_times(forward)"
        )
    schedule.check_kernel(forward, "the scheduler")
    return schedule

"""A scheduler for loops and pipelines of Hugging Face diffusers, with jumpsteps' schedules.

    scheduler = JumpStepsScheduler.from_reverse(model.reverse, schedules)
    scheduler.set_timesteps(8)
    x = scheduler.sample_prior((4, model.length), generator=generator)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, generator=generator).prev_sample

Timesteps are times t in (0, 1], where 1 is noise, as floats that decrease. Pipelines that number
their steps, such as ``DiffusionGemmaPipeline``, may pass the index of the step instead, an integer
from 0. With the same generator the samples are those of ``simulate``. To condition on observed
tokens, put them back into x before the loop and after every step, as ``simulate`` does.

Schedules of counts reveal masked sites in their order (absorbing kernel). Pipelines that generate
blocks, and counts where there is no MASK: ``integrations.diffusers_blocks``.

Needs the extra ``diffusers``. Shapes: sample int64 [B, L]; model output [B, L, V].
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
from jumpsteps.integrations.diffusers_config import (
    INTERPOLATED,
    SPACINGS,
    build_sampler,
    check_kinds,
    read_entry,
    sampler_to_json,
)
from jumpsteps.process.noise import Time
from jumpsteps.process.serialise import forward_from_json, forward_to_json
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.one_stage import Tweedie
from jumpsteps.sampling.registry import default_sampler
from jumpsteps.schedules.files import schedule_to_json
from jumpsteps.schedules.interpolation import nearest
from jumpsteps.schedules.schedule import CountSchedule, Schedule, Step

try:
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
except ImportError as error:
    raise ImportError(
        f"jumpsteps.integrations.diffusers needs diffusers ({error}): "
        "pip install 'jumpsteps[diffusers]'"
    ) from error

__all__ = ["JumpStepsScheduler"]

OUTPUTS: dict[str, type[ReverseProcess]] = {
    "posterior": PosteriorReverse,
    "log-score": LogScoreReverse,
    "leave-one-out": LeaveOneOutReverse,
}
"""How a model output is read."""


@dataclass
class JumpStepsOutput(SchedulerOutput):
    """What a step gives.

    Attributes:
        prev_sample: x_s, int64 [B, L].
        pred_logits: the model output [B, L, V], which pipelines with self-conditioning pass on.
    """

    pred_logits: Tensor | None = None


class JumpStepsScheduler(SchedulerMixin, ConfigMixin):
    """The sampling steps of a discrete diffusion model; make one with ``from_reverse``.

    Args:
        kernel: type and settings, such as {"type": "absorbing", "vocab_size": 5, "mask_id": 4}.
        noise: type and settings of the noise schedule, such as {"type": "LogLinear", "eps": 1e-3}.
        sampler: type (a key of ``SAMPLERS``) and settings; by default Tweedie's for times and
            k-Gillespie for counts.
        output: what the model gives. "posterior": logits of p(x_0 | x_t); "log-score":
            log p_t(y)/p_t(x); "leave-one-out": logits of the distribution that replaces x_0.
        schedules: optimised times, or counts of the absorbing kernel, an entry for each number of
            steps, as in a file of schedules.
        timestep_spacing: for numbers of steps that ``schedules`` does not hold: "uniform" or
            "cosine", or "interpolated" from the nearest of ``schedules``; None to refuse them.

    Attributes:
        timesteps: float64 [N], the times of the run in (0, 1], decreasing, set by
            ``set_timesteps``. Those of counts are the times at which as many sites are masked on
            average.

    Raises:
        ValueError: an unknown kernel, noise, sampler, output or spacing, or unknown settings; a
            sampler that does not serve the kernel or the schedules; schedules that are damaged,
            that have corrections, or that are for another kernel or noise.
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
            self.schedules = {
                int(entry["nfe"]): read_entry(entry, self.forward) for entry in schedules or []
            }
            first = next(iter(self.schedules.values()), None)
            default = Tweedie() if first is None else default_sampler(first)
            self.sampler = build_sampler(sampler or {"type": default.name})
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"the scheduler's config is damaged: {error!r}; make it with "
                "JumpStepsScheduler.from_reverse"
            ) from None
        self.sampler.check(self.forward)
        for name, value, known in (
            ("output", output, [*OUTPUTS]),
            ("timestep_spacing", timestep_spacing, [None, *SPACINGS, INTERPOLATED]),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        check_kinds(self.sampler, self.schedules, timestep_spacing)
        self.schedule: Schedule | None = None
        self.plan: list[Step] = []
        self.state: Any = None
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
            sampler: by default Tweedie's for times and k-Gillespie for counts.
            timestep_spacing: see the class.

        Raises:
            ValueError: as the class; a kernel or a sampler that a config cannot hold.
        """
        kernel, noise = forward_to_json(reverse.forward)
        return cls(
            kernel=kernel,
            noise=noise,
            sampler=None if sampler is None else sampler_to_json(sampler),
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
        """Choose the optimised schedule of this number of steps, else that of
        ``timestep_spacing``.

        Raises:
            ValueError: no schedule for this number, and no ``timestep_spacing``.
        """
        spacing = self.config.timestep_spacing
        if num_inference_steps in self.schedules:
            self.schedule = self.schedules[num_inference_steps]
        elif spacing == INTERPOLATED:
            found = nearest(self.schedules, num_inference_steps)
            self.schedule = found.with_steps(num_inference_steps)
        elif spacing is not None:
            self.schedule = SPACINGS[spacing](num_inference_steps)
        else:
            raise ValueError(
                f"the scheduler holds schedules for {sorted(self.schedules)} steps, not "
                f"{num_inference_steps}; choose one of these, or pass timestep_spacing to the "
                "scheduler: 'interpolated', 'uniform' or 'cosine'"
            )
        self.num_inference_steps = num_inference_steps
        self.plan, self.state = self.schedule.plan(self.forward), None
        times = [step.t for step in self.plan]
        self.timesteps = torch.tensor(times, dtype=torch.float64, device=device)

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
    ) -> JumpStepsOutput | tuple[Tensor]:
        """The step from x_t to x_s, where s is the next timestep, or 0 after the last one.

        Args:
            model_output: [B, L, V], the model at x_t and t; ``output`` of the config says of what.
            timestep: t, one of ``timesteps``; or the index of the step, an integer from 0.
            sample: x_t, int64 [B, L].
            generator: all random numbers; by default torch's global generator. A generator on
                another device seeds one on the sample's device.
            return_dict: False for a tuple of x_s alone.

        Raises:
            ValueError: no timesteps set, a time or an index that is none of theirs, or shapes that
                do not fit.
        """
        index = self.index_of(timestep)
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
        if index == 0:
            self.begin(sample)
        new, self.state, _ = self.sampler.step(
            reverse,
            sample,
            self.plan[min(index, len(self.plan) - 1)],
            self.state,
            generator=on_device(generator, sample.device),
        )
        return JumpStepsOutput(new, pred_logits=model_output) if return_dict else (new,)

    def begin(self, sample: Tensor) -> None:
        """Plan a run from this x_1: counts are rescaled to its masked sites."""
        self.state = None
        if isinstance(self.schedule, CountSchedule):
            self.plan = self.schedule.plan_for(self.forward, self.forward.movable(sample).sum(-1))

    def index_of(self, timestep: float | Tensor) -> int:
        """The index of the step that starts at a time, up to rounding to float32, or has an index.

        An integer is an index, because times are floats.
        """
        if self.timesteps is None:
            raise ValueError("there are no timesteps; call set_timesteps first")
        whole = isinstance(timestep, int) or (
            isinstance(timestep, Tensor) and not timestep.is_floating_point()
        )
        if whole and 0 <= int(timestep) < len(self.timesteps):
            return int(timestep)
        t = float(timestep)
        index = int((self.timesteps - t).abs().argmin())
        if whole or abs(float(self.timesteps[index]) - t) > 1e-6 * float(self.timesteps[index]):
            raise ValueError(
                f"timestep {timestep} is none of this run's {self.num_inference_steps}; pass those "
                "of scheduler.timesteps, or the index of a step from 0"
            )
        return index

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

r"""Counts in a reveal order, inside the block pipelines of Hugging Face diffusers.

    pipe.scheduler = JumpStepsBlockScheduler.from_schedules(schedules, block_length=32)
    pipe(prompt, num_inference_steps=8, threshold=2.0, ...)

``LLaDA2Pipeline`` and ``DiffusionGemmaPipeline`` generate a block of tokens at a time, and their
own scheduler reveals equal numbers of tokens in each step, the most confident ones first.
``JumpStepsBlockScheduler`` takes its place. It reveals as many sites as a ``CountSchedule`` says,
in the schedule's order, with symbols drawn as the pipeline asks (temperature, top-k, top-p).

* Where there is a MASK (``LLaDA2Pipeline``), a step reveals masked sites. Counts are rescaled to
  the masked sites of the block, so that a prompt may reach into it.
* Where there is none (``DiffusionGemmaPipeline``, uniform kernel), a step commits sites, and all
  that are not committed are drawn anew from the uniform distribution.

With ``by_confidence=True`` each step takes the most confident sites in place of the order. Counts
were not optimised for that: a search bounds the error of an order that does not look at the data,
and no bound is known of an order that does.

Needs the extra ``diffusers`` in a version with these pipelines. Shapes: sample int64 [B, L], a
block of L tokens; model output [B, L, V].
"""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from jumpsteps.integrations.diffusers import on_device
from jumpsteps.sampling.parallel_decoding import smallest
from jumpsteps.schedules.files import read_schedule, schedule_to_json
from jumpsteps.schedules.interpolation import nearest
from jumpsteps.schedules.orders import Blocks
from jumpsteps.schedules.schedule import CountSchedule, Schedule

try:
    from diffusers.configuration_utils import register_to_config
    from diffusers.schedulers.scheduling_block_refinement import (
        BlockRefinementScheduler,
        BlockRefinementSchedulerOutput,
    )
except ImportError as error:
    raise ImportError(
        f"jumpsteps.integrations.diffusers_blocks needs diffusers 0.39 or later ({error}): "
        "pip install -U 'jumpsteps[diffusers]'"
    ) from error

__all__ = ["JumpStepsBlockScheduler"]


class JumpStepsBlockScheduler(BlockRefinementScheduler):
    """Reveals the sites of a block by counts; make one with ``from_schedules``.

    Args:
        schedules: counts, an entry for each number of steps, as in a file of schedules. Another
            number of steps interpolates the nearest of them.
        by_confidence: the most confident sites first, in place of the schedules' order; sites above
            ``threshold`` are revealed besides those that are counted, as in the base class.
        block_length, num_inference_steps, threshold, editing_threshold, minimal_topk: as in the
            base class. In the schedules' order ``threshold`` and ``minimal_topk`` change nothing.

    Raises:
        ValueError: no schedules, or schedules that are damaged, hold times, have corrections or
            steps within several blocks.
    """

    @register_to_config
    def __init__(
        self,
        schedules: list[dict[str, Any]],
        by_confidence: bool = False,
        block_length: int = 32,
        num_inference_steps: int = 32,
        threshold: float = 0.95,
        editing_threshold: float | None = None,
        minimal_topk: int = 1,
    ) -> None:
        super().__init__(
            block_length=block_length,
            num_inference_steps=num_inference_steps,
            threshold=threshold,
            editing_threshold=editing_threshold,
            minimal_topk=minimal_topk,
        )
        try:
            self.schedules = {int(entry["nfe"]): read_counts(entry) for entry in schedules}
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"the scheduler's config is damaged: {error!r}; make it with "
                "JumpStepsBlockScheduler.from_schedules"
            ) from None
        if not self.schedules:
            raise ValueError("there are no schedules; make some with optimize_schedule")
        self.schedule = self.schedules[min(self.schedules)]
        self.counts: Tensor | None = None
        self.ranks: Tensor | None = None
        self.committed: Tensor | None = None

    @classmethod
    def from_schedules(cls, schedules: Mapping[int, Schedule], **settings: Any) -> Self:
        """The scheduler with these counts by number of steps.

        Args:
            settings: those of the class besides ``schedules``.

        Raises:
            ValueError: as the class.
        """
        entries = [schedule_to_json(nfe, one) for nfe, one in sorted(schedules.items())]
        return cls(schedules=entries, **settings)

    def get_num_transfer_tokens(self, block_length: int, num_inference_steps: int) -> Tensor:
        """How many of ``block_length`` sites each step reveals, int64 [``num_inference_steps``].

        Blocks of fewer sites than steps are finished before the last step.
        """
        self.schedule = fitted(self.schedules, num_inference_steps, block_length)
        counts = torch.tensor(self.schedule.tokens_per_step(block_length))
        return torch.nn.functional.pad(counts, (0, num_inference_steps - len(counts)))

    @torch.no_grad()
    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        *,
        mask_token_id: int | None = None,
        temperature: float = 0.0,
        top_p: float | None = None,
        top_k: int | None = None,
        sampling_method: str = "auto",
        threshold: float | None = None,
        editing_threshold: float | None = None,
        minimal_topk: int | None = None,
        prompt_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> BlockRefinementSchedulerOutput | tuple[Tensor, ...]:
        """One step of a block; the arguments are those of the base class.

        Raises:
            ValueError: no timesteps set.
        """
        if self._transfer_schedule is None:
            raise ValueError("there are no timesteps; call set_timesteps first")
        greedy = sampling_method == "greedy" or (sampling_method == "auto" and temperature == 0.0)
        tokens, probs = self._sample_from_logits(
            model_output,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
            use_multinomial=not greedy,
        )
        index, uniform = int(timestep), mask_token_id is None
        masked = torch.ones_like(sample, dtype=torch.bool)
        if mask_token_id is not None:
            masked = sample == mask_token_id
        if index == 0 or self.committed is None or self.committed.shape != sample.shape:
            self.begin(masked, generator)
        assert self.committed is not None
        hidden = masked & ~self.committed if uniform else masked
        revealed = self.choose(index, hidden, probs, threshold)
        edited = torch.zeros_like(revealed)
        limit = self.config.editing_threshold if editing_threshold is None else editing_threshold
        if limit is not None and limit > 0:
            edited = ~hidden & (tokens != sample) & (probs > limit)
            edited = edited if prompt_mask is None else edited & ~prompt_mask
        new = torch.where(revealed | edited, tokens, sample)
        self.committed = self.committed | revealed
        if uniform:
            noise = torch.randint(
                model_output.shape[-1], sample.shape, generator=generator, device=sample.device
            )
            new = torch.where(self.committed, new, noise)
        parts = (new, revealed, edited, tokens, probs, model_output)
        return BlockRefinementSchedulerOutput(*parts) if return_dict else parts

    def begin(self, hidden: Tensor, generator: torch.Generator | None) -> None:
        """Start a block: its order, and the counts of every sequence.

        Args:
            hidden: bool [B, L], the sites to reveal.
        """
        steps = self.num_inference_steps
        rows = [
            self.get_num_transfer_tokens(n, steps) if n else torch.zeros(steps, dtype=torch.int64)
            for n in hidden.sum(-1).tolist()
        ]
        self.counts = torch.stack(rows).to(hidden.device)
        drawn = on_device(generator, hidden.device)
        self.ranks = self.schedule.order.free_ranks(hidden, generator=drawn)
        self.committed = torch.zeros_like(hidden)

    def choose(self, index: int, hidden: Tensor, probs: Tensor, threshold: float | None) -> Tensor:
        """bool [B, L]: the hidden sites that this step reveals."""
        assert self.counts is not None
        assert self.ranks is not None
        count = self.counts[:, min(index, self.counts.shape[1] - 1)]
        keys = -probs.to(torch.float64) if self.config.by_confidence else self.ranks.double()
        chosen = smallest(keys.masked_fill(~hidden, torch.inf), count) & hidden
        if self.config.by_confidence:
            limit = self.config.threshold if threshold is None else threshold
            chosen |= hidden & (probs > limit)
        return chosen


def read_counts(entry: Mapping[str, Any]) -> CountSchedule:
    """A schedule of counts from its JSON entry.

    Raises:
        ValueError: times, corrections, or an order of blocks.
    """
    schedule = read_schedule(entry)
    if not isinstance(schedule, CountSchedule):
        raise ValueError(
            f"the schedule for {entry['nfe']} steps has times, and a block is revealed by counts; "
            "use schedule.to_counts(forward, length)"
        )
    if schedule.redraws:
        raise ValueError(
            f"the schedule for {entry['nfe']} steps has corrections, which a pipeline does not "
            "make; leave out the redraws"
        )
    if isinstance(schedule.order, Blocks):
        raise ValueError(
            f"the schedule for {entry['nfe']} steps is of several blocks, and a pipeline makes one "
            "at a time; pass CountSchedule(schedule.blocks[0], order=schedule.order.inner)"
        )
    return schedule


def fitted(schedules: Mapping[int, CountSchedule], steps: int, sites: int) -> CountSchedule:
    """The counts of so many sites in so many steps, or in as many as there are sites."""
    steps = min(steps, sites)
    rescaled = nearest(schedules, steps).rescaled(sites)
    return rescaled if steps in schedules else rescaled.with_steps(steps)

"""Schedules to share: a folder, or a repository of the Hugging Face hub, with ``schedules.json`` and a card.

``schedules.json`` is the file of ``schedule.save_schedules``. The card, ``README.md``, says in words what the schedules' provenance
says: what they are for, how they were found, what they should cost, and how to load them.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Self

from jumpsteps.core.files import replacing
from jumpsteps.models.hub import download, looks_like_hub_id
from jumpsteps.models.tokenizer import first_line
from jumpsteps.schedules.files import load_schedules, save_schedules
from jumpsteps.schedules.schedule import CountSchedule, Schedule

__all__ = ["ScheduleSet"]

FILE = "schedules.json"

HEADER = """---
library_name: jumpsteps
tags:
- jumpsteps
- discrete-diffusion
- sampling-schedule
---
"""

FACTS = {
    "kernel": "kernel",
    "noise": "noise schedule",
    "sampler": "sampler",
    "model": "model",
    "model_hash": "SHA-256 of the model's weights",
    "data": "data of the search",
    "sequences": "sequences it saw",
    "method": "method",
    "seed": "seed",
    "model_calls": "model calls it made",
    "version": "version of jumpsteps",
}
"""What a card says of a provenance: its fields, and how they are called."""


class ScheduleSet(dict[int, Schedule]):
    """Schedules by their NFE, with the methods that models on the hub have.

    >>> ScheduleSet(optimize_schedule(...)).push_to_hub("someone/schedules")
    >>> schedules = ScheduleSet.from_pretrained("someone/schedules")
    """

    def save_pretrained(self, folder: Path | str, *, repo_id: str | None = None) -> None:
        """Write ``schedules.json`` and ``README.md`` into a folder; those of an older set are replaced.

        Args:
            folder: made if it is not there.
            repo_id: the name that the card loads the schedules by; the folder's unless given.

        Raises:
            ValueError: no schedules, or a folder whose ``README.md`` is of something else.
        """
        if not self:
            raise ValueError("there are no schedules to save; make some with optimize_schedule")
        folder = Path(folder)
        refuse_others((folder / "README.md").exists(), (folder / FILE).exists(), folder)
        save_schedules(folder / FILE, self)
        with replacing(folder / "README.md") as temporary:
            temporary.write_text(card(self, repo_id or folder.resolve().name), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name: Path | str, *, revision: str | None = None) -> Self:
        """Read the schedules of a folder, or of a repository of the hub.

        Args:
            name: a folder, or a hub id such as "someone/schedules".
            revision: branch, tag or commit of the repository; the latest unless given.

        Raises:
            ValueError: neither a folder nor a repository that can be fetched, or one without schedules.
        """
        folder = Path(name)
        if not folder.is_dir():
            if isinstance(name, Path) or not looks_like_hub_id(name):
                raise ValueError(
                    f"{str(name)!r} is neither a folder nor a hub id; pass one, or read a file with load_schedules"
                )
            folder = download(name, [FILE], revision)
        return cls(load_schedules(folder / FILE))

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = "Upload schedules"
    ) -> str:
        """Upload the schedules and their card to a repository of the hub, which is made if it is not there.

        Args:
            repo_id: such as "someone/schedules".
            private: whether a repository that is made is private; the owner's default unless given.

        Returns:
            The address of the commit.

        Raises:
            ValueError: no schedules, a repository whose ``README.md`` is of something else, or the hub did not take them.
        """
        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id=repo_id)
            api = HfApi()
            try:
                api.create_repo(repo_id, private=private, exist_ok=True)
                has_card, has_schedules = (
                    api.file_exists(repo_id, name) for name in ("README.md", FILE)
                )
            except Exception as error:  # Which errors the hub's HTTP client raises depends on the version of huggingface_hub.
                raise not_taken(repo_id, error) from error
            refuse_others(has_card, has_schedules, repo_id)
            try:
                commit = api.upload_folder(
                    repo_id=repo_id, folder_path=folder, commit_message=commit_message
                )
            except Exception as error:
                raise not_taken(repo_id, error) from error
        return commit.commit_url


def not_taken(repo_id: str, error: Exception) -> ValueError:
    return ValueError(
        f"the hub did not take {repo_id!r} ({first_line(error)}); log in with 'hf auth login' and check the name"
    )


def refuse_others(has_card: bool, has_schedules: bool, place: Path | str) -> None:
    """Raises ValueError for a place, such as a model's, whose card would be lost."""
    if has_card and not has_schedules:
        raise ValueError(
            f"{place} has a README.md and no {FILE}: it is of something else; choose another name for the schedules"
        )


def card(schedules: Mapping[int, Schedule], name: str) -> str:
    """The text of ``README.md``."""
    ordered = [schedules[nfe] for nfe in sorted(schedules)]
    models = distinct(ordered, "model") or "a discrete diffusion model"
    facts = [(called, distinct(ordered, field)) for field, called in FACTS.items()]
    lines = [
        f"# Sampling schedules for {models}",
        "",
        "When to take the steps of a discrete diffusion model, one schedule for each number of model calls (NFE).",
        "A schedule is only good for the kernel, noise schedule, sampler and model that it was found for:",
        "",
        *(f"- {called}: {value}" for called, value in facts if value),
        "",
        "| NFE | steps | predicted cost, nats per sequence |",
        "|---|---|---|",
        *(
            f"| {nfe} | {kind(schedules[nfe])} | {predicted(schedules[nfe])} |"
            for nfe in sorted(schedules)
        ),
        "",
        "```python",
        "import jumpsteps",
        "",
        f'schedules = jumpsteps.ScheduleSet.from_pretrained("{name}")',
        f"schedule = schedules[{min(schedules)}]",
        "```",
    ]
    return HEADER + "\n".join(lines) + "\n"


def distinct(schedules: list[Schedule], field: str) -> str:
    """What the schedules' provenance says in this field; empty if nothing."""
    values = [asdict(schedule.provenance)[field] for schedule in schedules]
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in ("", None)))


def kind(schedule: Schedule) -> str:
    if isinstance(schedule, CountSchedule):
        return f"{schedule.steps}, of {schedule.total} jumps in all, in {schedule.order.name} order"
    return f"{schedule.steps}, in time"


def predicted(schedule: Schedule) -> str:
    cost, stderr = schedule.provenance.predicted_cost, schedule.provenance.predicted_cost_stderr
    if cost is None:
        return "unknown"
    return f"{cost:.4g}" if stderr is None else f"{cost:.4g} ± {stderr:.2g}"

"""Schedules to share: ``schedules.json`` and a card, in a folder or a Hugging Face hub repository.

``schedules.json`` is written by ``save_schedules``. The card, ``README.md``, puts the provenance of
the schedules in words: what they are for, how they were found, their excess, and the
Python that loads them.
"""

import tempfile
from collections.abc import Mapping
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
    "sequences": "sequences in the search",
    "method": "method",
    "seed": "seed",
    "model_calls": "model calls of the search",
    "version": "version of jumpsteps",
}
"""The fields of a provenance that a card lists, and what it calls them."""


class ScheduleSet(dict[int, Schedule]):
    """Schedules by their NFE, which save, load and upload themselves as models on the hub do.

    >>> ScheduleSet(optimize_schedule(...)).push_to_hub("someone/schedules")
    >>> schedules = ScheduleSet.from_pretrained("someone/schedules")
    """

    def save_pretrained(self, folder: Path | str, *, repo_id: str | None = None) -> None:
        """Write ``schedules.json`` and ``README.md`` into a folder, over those of an older set.

        Args:
            folder: made if it does not exist.
            repo_id: the name by which the card loads the schedules; by default the folder's.

        Raises:
            ValueError: no schedules, or a folder whose ``README.md`` describes something else.
        """
        if not self:
            raise ValueError("there are no schedules to save; make some with optimize_schedule")
        folder = Path(folder)
        check_card((folder / "README.md").exists(), (folder / FILE).exists(), folder)
        save_schedules(folder / FILE, self)
        with replacing(folder / "README.md") as temporary:
            temporary.write_text(card(self, repo_id or folder.resolve().name), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, name: Path | str, *, revision: str | None = None) -> Self:
        """Read the schedules of a folder or of a hub repository.

        Args:
            name: a folder, or a hub id such as "someone/schedules".
            revision: branch, tag or commit of the repository; by default the latest.

        Raises:
            ValueError: neither a folder nor a repository that can be fetched, or one without
                schedules.
        """
        folder = Path(name)
        if not folder.is_dir():
            if isinstance(name, Path) or not looks_like_hub_id(name):
                raise ValueError(
                    f"{str(name)!r} is neither a folder nor a hub id; pass one, or read a file "
                    "with load_schedules"
                )
            folder = download(name, [FILE], revision)
        return cls(load_schedules(folder / FILE))

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, commit_message: str = "Upload schedules"
    ) -> str:
        """Upload the schedules and their card to a hub repository, which is made if it is missing.

        Args:
            repo_id: such as "someone/schedules".
            private: whether a new repository is private; by default as its owner has set.

        Returns:
            The address of the commit.

        Raises:
            ValueError: no schedules, a repository whose ``README.md`` describes something else, or
                a failed upload.
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
            except Exception as error:  # The types differ between versions of huggingface_hub.
                raise upload_failed(repo_id, error) from error
            check_card(has_card, has_schedules, repo_id)
            try:
                commit = api.upload_folder(
                    repo_id=repo_id, folder_path=folder, commit_message=commit_message
                )
            except Exception as error:
                raise upload_failed(repo_id, error) from error
        return commit.commit_url


def upload_failed(repo_id: str, error: Exception) -> ValueError:
    return ValueError(
        f"uploading to {repo_id!r} failed ({first_line(error)}); log in with 'hf auth login' and "
        "check the name"
    )


def check_card(has_card: bool, has_schedules: bool, place: Path | str) -> None:
    """Raises ValueError for a folder or repository, such as a model's, whose card would be lost."""
    if has_card and not has_schedules:
        raise ValueError(
            f"{place} has a README.md but no {FILE}, so it holds something else; choose another "
            "name for the schedules"
        )


def card(schedules: Mapping[int, Schedule], name: str) -> str:
    """The text of ``README.md``."""
    ordered = [schedules[nfe] for nfe in sorted(schedules)]
    models = distinct(ordered, "model") or "a discrete diffusion model"
    facts = [(called, distinct(ordered, field)) for field, called in FACTS.items()]
    lines = [
        f"# Sampling schedules for {models}",
        "",
        "One schedule for each number of model calls (NFE) of a discrete diffusion model.",
        "Use them with the kernel, noise schedule, sampler and model that they were found for:",
        "",
        *(f"- {called}: {value}" for called, value in facts if value),
        "",
        "| NFE | steps | excess of the few-step NLL, nats per sequence |",
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
    """The different values of this field in the schedules' provenance; empty if there are none."""
    values = [schedule.provenance.facts()[field] for schedule in schedules]
    return ", ".join(dict.fromkeys(str(value) for value in values if value not in ("", None)))


def kind(schedule: Schedule) -> str:
    calls = sum(redraw.calls for redraw in schedule.redraws)
    corrections = f", and {calls} corrections" if calls else ""
    if isinstance(schedule, CountSchedule):
        counts = f"counts of {schedule.total} tokens, {schedule.order.name} order"
        return f"{schedule.steps} ({counts}){corrections}"
    return f"{schedule.steps} (times){corrections}"


def predicted(schedule: Schedule) -> str:
    known = schedule.provenance
    cost, stderr = known.error
    if cost is None:
        return "unknown"
    text = f"{cost:.4g}" if stderr is None else f"{cost:.4g} ± {stderr:.2g}"
    if known.excess is None:
        return f"{text} (an estimate, not a bound)"
    if known.excess_limit is None:
        return f"{text} (interpolated, no certificate)"
    return f"{text}, at most {known.excess_limit:.4g} (95%)"

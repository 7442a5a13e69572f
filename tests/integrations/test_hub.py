"""Sets of schedules in folders and on the hub; a fake hub keeps what would be uploaded."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

import jumpsteps
from jumpsteps.integrations.hub import ScheduleSet
from jumpsteps.schedules.files import load_schedules
from jumpsteps.schedules.fixed import uniform
from jumpsteps.schedules.orders import Spread
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule

FOUND = Provenance(
    method="shortest-path",
    kernel="absorbing",
    noise={"type": "LogLinear", "eps": 0.001},
    sampler="tweedie",
    model="someone/model",
    model_hash="0123abc",
    data="essays",
    sequences=48,
    seed=7,
    model_calls=1536,
    few_step_nll=100.0,
    few_step_nll_stderr=2.0,
    bits_per_token=1.0,
    excess=12.3456,
    excess_stderr=0.321,
    excess_limit=13.0,
    version="9.9",
)
SCHEDULES = ScheduleSet(
    {
        8: CountSchedule(
            [3, 5], Provenance(model="someone/model", sampler="k-gillespie"), Spread()
        ),
        2: TimeSchedule([1.0, 0.3, 0.0], FOUND),
    }
)


class FakeHub:
    """Replaces ``HfApi``: keeps the arguments, and the files that would be uploaded."""

    def __init__(self, error=None):
        self.error, self.made, self.told, self.files = error, None, None, {}
        self.there = set()

    def __call__(self):
        return self

    def create_repo(self, repo_id, **options):
        self.made = (repo_id, options)
        if self.error:
            raise self.error

    def file_exists(self, repo_id, name):
        return name in self.there

    def upload_folder(self, *, folder_path, **told):
        self.told, self.files = (
            told,
            {path.name: path.read_bytes() for path in Path(folder_path).iterdir()},
        )
        return SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


def test_a_folder_holds_schedules_and_card(tmp_path):
    SCHEDULES.save_pretrained(tmp_path / "new" / "mine")
    assert sorted(path.name for path in (tmp_path / "new" / "mine").iterdir()) == [
        "README.md",
        "schedules.json",
    ]
    found = ScheduleSet.from_pretrained(tmp_path / "new" / "mine")
    assert isinstance(found, ScheduleSet)
    assert found == SCHEDULES == ScheduleSet.from_pretrained(str(tmp_path / "new" / "mine"))
    assert load_schedules(tmp_path / "new" / "mine" / "schedules.json") == SCHEDULES
    ScheduleSet({4: uniform(4)}).save_pretrained(tmp_path / "new" / "mine")
    assert ScheduleSet.from_pretrained(tmp_path / "new" / "mine") == {4: uniform(4)}


def test_the_card_says_what_the_provenance_says(tmp_path):
    SCHEDULES.save_pretrained(tmp_path, repo_id="someone/schedules")
    read = ModelCard.load(tmp_path / "README.md")
    assert read.data.library_name == "jumpsteps"
    assert "sampling-schedule" in read.data.tags
    lines = read.text.splitlines()
    assert "# Sampling schedules for someone/model" in lines
    for line in (
        "- kernel: absorbing",
        "- noise schedule: LogLinear(eps=0.001)",
        "- sampler: tweedie, k-gillespie",
        "- model: someone/model",
        "- SHA-256 of the model's weights: 0123abc",
        "- data of the search: essays",
        "- sequences in the search: 48",
        "- method: shortest-path",
        "- seed: 7",
        "- model calls of the search: 1536",
        "- version of jumpsteps: 9.9",
    ):
        assert line in lines
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[1:] == [
        "| 2 | 2 (times) | 12.35 ± 0.32, at most 13 (95%) |",
        "| 8 | 2 (counts of 8 tokens, spread order) | unknown |",
    ]


def test_a_card_names_corrections(tmp_path):
    plan = CountSchedule([3, 5], order=Spread(), redraws=(Redraw(4), Redraw(2, 0.5)))
    ScheduleSet({8: plan}).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| 2 (counts of 8 tokens, spread order), and 6 corrections |" in text
    assert ScheduleSet.from_pretrained(tmp_path) == {8: plan}


def test_a_card_leaves_out_unknown_facts(tmp_path):
    ScheduleSet(
        {4: TimeSchedule([1.0, 0.0], Provenance(seed=0, predicted_cost=2.0))}
    ).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("- ")][3:] == ["- seed: 0"]
    assert "# Sampling schedules for a discrete diffusion model" in text
    assert "| 4 | 1 (times) | 2 (an estimate, not a bound) |" in text
    assert f'from_pretrained("{tmp_path.name}")' in text


def test_what_is_pushed_can_be_fetched(hub, tmp_path, monkeypatch):
    assert (
        SCHEDULES.push_to_hub("someone/schedules", private=True, commit_message="first")
        == "https://hub/commit/1"
    )
    assert hub.made == ("someone/schedules", {"private": True, "exist_ok": True})
    assert hub.told == {"repo_id": "someone/schedules", "commit_message": "first"}
    asked = []

    def snapshot(hub_id, *, allow_patterns, revision):
        asked.append((hub_id, revision))
        for name in allow_patterns:
            (tmp_path / name).write_bytes(hub.files[name])
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert ScheduleSet.from_pretrained("someone/schedules", revision="v1") == SCHEDULES
    (lines,) = re.findall(r"```python\n(.*?)```", hub.files["README.md"].decode(), re.DOTALL)
    names = {}
    exec(lines, names)
    assert names["schedule"] == SCHEDULES[2]
    assert asked == [("someone/schedules", "v1"), ("someone/schedules", None)]


def test_a_failed_upload_is_one_line(monkeypatch):
    for error in (OSError, RuntimeError):
        monkeypatch.setattr("huggingface_hub.HfApi", FakeHub(error("Unauthorized\nlong story")))
        with pytest.raises(
            ValueError,
            match=r"^uploading to 'someone/x' failed \(Unauthorized\); log in with .* name$",
        ):
            SCHEDULES.push_to_hub("someone/x")


def test_sets_that_cannot_be_saved_or_read_are_refused(tmp_path, hub, monkeypatch):
    with pytest.raises(ValueError, match="no schedules to save"):
        ScheduleSet().save_pretrained(tmp_path / "empty")
    with pytest.raises(ValueError, match="no schedules to save"):
        ScheduleSet().push_to_hub("someone/x")
    assert hub.made is None
    assert not (tmp_path / "empty").exists()
    for name in ("nothing", tmp_path / "nothing"):
        with pytest.raises(ValueError, match="neither a folder nor a hub id"):
            ScheduleSet.from_pretrained(name)
    with pytest.raises(ValueError, match=r"there is no file .*schedules\.json"):
        ScheduleSet.from_pretrained(tmp_path)
    (tmp_path / "schedules.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match="not a file of schedules"):
        ScheduleSet.from_pretrained(tmp_path)

    def offline(*args, **kwargs):
        raise OSError("no network\nlong story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        ValueError, match=r"'someone/x' .* could not be fetched from the hub \(no network\)$"
    ):
        ScheduleSet.from_pretrained("someone/x")


def test_what_a_search_returns_can_be_shared(tmp_path):
    assert jumpsteps.ScheduleSet is ScheduleSet
    plain = {2: uniform(2), 4: uniform(4)}
    ScheduleSet(plain).save_pretrained(tmp_path)
    assert ScheduleSet.from_pretrained(tmp_path) == plain


def test_a_card_of_something_else_is_not_replaced(tmp_path, hub):
    (tmp_path / "README.md").write_text("a model")
    schedules = ScheduleSet({2: uniform(2)})
    with pytest.raises(
        ValueError,
        match=r"has a README.md but no schedules.json, so it holds something else; choose another",
    ):
        schedules.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "a model"
    hub.there = {"README.md"}
    with pytest.raises(ValueError, match=r"someone/model has a README.md but no schedules.json"):
        schedules.push_to_hub("someone/model")
    assert hub.told is None
    hub.there = {"README.md", "schedules.json"}
    schedules.push_to_hub("someone/model")
    assert hub.told["repo_id"] == "someone/model"

"""The command line, end to end, on small numbers; the full demo runs with small sizes."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from jumpsteps import load, optimize_schedule
from jumpsteps.cli import demo as demo_module
from jumpsteps.cli.demo import DemoConfig, run_demo
from jumpsteps.cli.main import main
from jumpsteps.cli.sequence_files import load_tokens
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.sampling.registry import SAMPLERS


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_optimize_then_sample(tmp_path, capsys):
    schedules, samples = tmp_path / "s.json", tmp_path / "x.npz"
    code, out, _ = run(
        capsys, "optimize", "countdown-exact", "--nfe", 4, 6, "--sequences", 4, "-o", schedules
    )
    assert code == 0
    assert "32 model calls on 4 sequences" in out
    code, out, err = run(
        capsys,
        "sample",
        "countdown-exact",
        "--schedule",
        schedules,
        "--nfe",
        6,
        "-n",
        5,
        "--batch",
        2,
        "-o",
        samples,
    )
    assert (code, err) == (0, "")
    assert "violation rate" in out
    content = np.load(samples)
    assert content["samples"].shape == (5, 256)
    assert content["samples"].dtype == np.int64
    assert content["nfe"] == 6
    known = json.loads(schedules.read_text())["schedules"][0]["provenance"]
    assert known["model"] == "countdown-exact"
    assert known["data"] == "countdown"


def test_the_same_seed_writes_the_same_samples(tmp_path, capsys):
    files = [tmp_path / f"{i}.npz" for i in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        run(capsys, "sample", "countdown-exact", "--nfe", 2, "-n", 2, "--seed", seed, "-o", file)
    a, b, c = (np.load(file)["samples"] for file in files)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_compare_prints_a_table_and_draws(tmp_path, capsys):
    results, picture = tmp_path / "r.json", tmp_path / "p.png"
    names = ["uniform", "cosine", "jys", "shortest-path"]
    code, out, _ = run(
        capsys,
        "compare",
        "countdown-exact",
        "--nfe",
        2,
        4,
        "--schedules",
        *names,
        "-n",
        6,
        "--sequences",
        4,
        "-o",
        results,
        "--picture",
        picture,
    )
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["NFE", "2", "4"]
    content = json.loads(results.read_text())
    assert [(row["nfe"], row["schedule"]) for row in content["rows"]] == [
        (n, name) for n in (2, 4) for name in names
    ]
    assert content["search_calls"]["shortest-path"] == 32
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_euler_is_there(tmp_path, capsys):
    assert (
        run(
            capsys,
            "sample",
            "countdown-exact",
            "--nfe",
            2,
            "-n",
            1,
            "--sampler",
            "euler",
            "-o",
            tmp_path / "x.npz",
        )[0]
        == 0
    )


def test_a_network_is_loaded_in_another_format_and_compiled(tmp_path, capsys, monkeypatch):
    asked = []

    def spy(name, **options):
        asked.append((options["dtype"], options["compile"]))
        return load(name, **(options | {"compile": False}))

    monkeypatch.setattr("jumpsteps.cli.inputs.load", spy)
    out = tmp_path / "x.npz"
    assert (
        run(
            capsys,
            "sample",
            "countdown",
            "--nfe",
            1,
            "-n",
            1,
            "--dtype",
            "bfloat16",
            "--compile",
            "-o",
            out,
        )[0]
        == 0
    )
    assert run(capsys, "sample", "countdown", "--nfe", 1, "-n", 1, "-o", out)[0] == 0
    assert asked == [(torch.bfloat16, True), (None, False)]


def test_data_from_files(tmp_path, capsys):
    tokens = np.tile(np.arange(256)[::-1] % 32, (6, 1))
    np.savez(tmp_path / "d.npz", samples=tokens)
    np.save(tmp_path / "d.npy", tokens)
    for name in ("d.npz", "d.npy"):
        out = tmp_path / "s.json"
        assert (
            run(
                capsys,
                "optimize",
                "countdown-exact",
                "--data",
                tmp_path / name,
                "--nfe",
                2,
                "-o",
                out,
            )[0]
            == 0
        )
        known = json.loads(out.read_text())["schedules"][0]["provenance"]
        assert known["data"].startswith(f"{name} sha256:")
        assert known["sequences"] == 6


def test_train_writes_a_model_that_loads(tmp_path, capsys):
    folder = tmp_path / "model"
    code, out, _ = run(capsys, "train", "countdown", "--out", folder, "--steps", 2, "--batch", 2)
    assert code == 0
    assert "finished" in out
    assert run(capsys, "sample", folder, "--nfe", 1, "-n", 1, "-o", tmp_path / "x.npz")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "nothing", "--nfe", 2], "there is no model 'nothing'"),
        (
            ["sample", "countdown", "--nfe", 2, "--dtype", "int8"],
            "there is no number format 'int8'; choose float32 or bfloat16",
        ),
        (
            ["sample", "countdown-exact", "--nfe", 2, "--dtype", "bfloat16"],
            "is an exact distribution, not a network; leave out dtype",
        ),
        (
            ["sample", "countdown-exact", "--nfe", 2, "--compile"],
            "is an exact distribution, not a network; leave out dtype and compile",
        ),
        (
            ["sample", "countdown-exact", "--nfe", 2, "--sampler", "magic"],
            "choose tweedie or euler",
        ),
        (
            ["sample", "countdown-exact", "--nfe", 2, "--schedule", "none.json"],
            "there is no schedule 'none.json'",
        ),
        (["sample", "countdown-exact", "--nfe", 2, "--device", "abacus"], "no device 'abacus'"),
        (["optimize", "countdown-exact", "--nfe", 3, "--method", "jys"], "powers of two only"),
        (
            ["optimize", "countdown-exact", "--nfe", 3, "--method", "magic"],
            "choose shortest-path or ",
        ),
        (
            ["optimize", "countdown-exact", "--nfe", 3, "--data", "none.npz"],
            "there is no file none.npz",
        ),
        (
            ["compare", "countdown-exact", "--nfe", 3, "--schedules", "magic"],
            "there is no schedule 'magic'",
        ),
        (["train", "poetry", "--out", "x"], "choose countdown or piano-uniform or piano-absorbing"),
        (
            ["train", "piano-uniform", "--out", "x"],
            "the recipe for piano needs data; pass --data PATH",
        ),
        (["sample", "countdown-exact", "--nfe", 1, "-o", "."], ". is a folder; name a file"),
        (
            ["compare", "countdown-exact", "--nfe", 1, "--schedules", "uniform", "-n", 1],
            "at least two samples",
        ),
        (
            ["sample", "countdown", "--nfe", 1, "--prompt", "5 4 3"],
            "'countdown' has no tokenizer; pass token ids with --given",
        ),
        (
            ["optimize", "countdown-exact", "--nfe", 2, "--text", "x.txt"],
            "--text is text, and 'countdown-exact' has no tokenizer; pass",
        ),
        (
            ["sample", "countdown-exact", "--nfe", 1, "--tokenizer", "."],
            "countdown-exact is not a model of text",
        ),
        (
            ["sample", "countdown-exact", "--nfe", 1, "--given", "none.npz"],
            "there is no file none.npz; pass --given",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5, dtype=np.int64), "tokens are integers"),
        (np.zeros((2, 5)), "tokens are integers"),
        (np.full((2, 5), 32), "data holds MASK (token 32)"),
        (np.full((2, 5), 77), "data holds tokens 77..77, the vocabulary is 0..32"),
    ],
)
def test_bad_token_files_are_refused(tmp_path, capsys, array, message):
    np.savez(tmp_path / "d.npz", samples=array)
    code, _, err = run(
        capsys,
        "optimize",
        "countdown-exact",
        "--data",
        tmp_path / "d.npz",
        "--nfe",
        2,
        "-o",
        tmp_path / "s.json",
    )
    assert code == 1
    assert message in err
    assert not (tmp_path / "s.json").exists()


def test_files_without_tokens_are_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"nonsense")
    for name in ("a.npz", "b.npz"):
        code, _, err = run(
            capsys,
            "optimize",
            "countdown-exact",
            "--data",
            tmp_path / name,
            "--nfe",
            2,
            "-o",
            tmp_path / "s.json",
        )
        assert code == 1
        assert "holds no tokens" in err


def test_a_folder_with_the_name_of_a_built_in_model_is_not_taken_in_silence(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy-uniform").mkdir()
    sample = ["--nfe", 1, "-n", 1, "--device", "cpu", "-o", "x.npz"]
    code, _, err = run(capsys, "sample", "toy-uniform", *sample)
    assert (code, err) == (
        0,
        "note: 'toy-uniform' is the built-in model; for the folder of this name pass ./toy-uniform\n",
    )
    code, _, err = run(capsys, "sample", "./toy-uniform", *sample)
    assert code == 1
    assert "there is no file toy-uniform/config.json" in err.replace("./", "")


def test_a_schedule_of_another_model_is_used_with_a_note(tmp_path, capsys):
    path = tmp_path / "s.json"
    run(capsys, "optimize", "countdown-exact", "--nfe", 2, "--sequences", 4, "-o", path)
    content = json.loads(path.read_text())
    content["schedules"][0]["provenance"]["model_hash"] = "0" * 64
    path.write_text(json.dumps(content))
    code, _, err = run(
        capsys,
        "sample",
        "countdown-exact",
        "--nfe",
        2,
        "--schedule",
        path,
        "-n",
        1,
        "-o",
        tmp_path / "x.npz",
    )
    assert code == 0
    assert "not for these weights" in err
    content["schedules"][0]["provenance"]["kernel"] = "uniform"
    path.write_text(json.dumps(content))
    code, _, err = run(
        capsys,
        "sample",
        "countdown-exact",
        "--nfe",
        2,
        "--schedule",
        path,
        "-n",
        1,
        "-o",
        tmp_path / "x.npz",
    )
    assert code == 1
    assert (
        "schedule was optimised for the kernel uniform, the model 'countdown-exact' has absorbing"
        in err
    )


def test_the_demo_writes_everything_it_names(tmp_path):
    said = []
    config = DemoConfig(
        model="countdown-exact", nfe=(2, 4), samples=4, sequences=4, jys_sequences=2
    )
    run_demo(tmp_path, torch.device("cpu"), config=config, say=said.append, progress=False)
    files = {
        "schedules.json",
        "schedules-times.json",
        "schedules-jys.json",
        "results.json",
        "comparison.png",
    }
    assert {p.name for p in tmp_path.iterdir()} == files
    assert "Fewer errors than uniform steps" in said[-2]
    assert "jumpsteps sample countdown-exact" in said[-1]
    assert demo_module.DemoConfig().model == "countdown"


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "jumpsteps", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == __import__("jumpsteps").__version__


def test_every_sampler_samples_by_name(tmp_path, capsys):
    for name, sampler in SAMPLERS.items():
        if name in (
            "first-hitting",
            "gillespie",
            "tau-leaping-ordinal",
        ):  # many calls; another kernel
            continue
        steps = [] if sampler.takes is None else ["--nfe", 4]
        code, out, err = run(
            capsys,
            "sample",
            "countdown-exact",
            "--sampler",
            name,
            *steps,
            "-n",
            2,
            "-o",
            tmp_path / f"{name}.npz",
        )
        assert (code, err) == (0, ""), name
        assert "violation rate" in out
        if sampler.takes is not None:
            assert np.load(tmp_path / f"{name}.npz")["nfe"] <= 4


def test_samplers_that_do_not_fit_say_so(tmp_path, capsys):
    out = ["-o", tmp_path / "x.npz"]
    cases = [
        (
            ["countdown-exact-uniform", "--sampler", "k-gillespie", "--nfe", 4],
            "serves the absorbing kernel",
        ),
        (["countdown-exact", "--sampler", "tau-leaping-ordinal", "--nfe", 4], "MASK is no number"),
        (["countdown-exact", "--sampler", "tweedie"], "say how many model calls with --nfe"),
        (
            ["countdown-exact", "--sampler", "theta-rk2", "--nfe", 1],
            "takes 2 model calls, got NFE 1",
        ),
        (
            ["countdown-exact", "--sampler", "first-hitting", "--nfe", 4],
            "leave out --nfe and --schedule",
        ),
    ]
    for arguments, message in cases:
        code, _, err = run(capsys, "sample", *arguments, *out)
        assert code == 1
        assert message in err


def test_jumps_are_optimised_written_and_used(tmp_path, capsys):
    file, samples = tmp_path / "k.json", tmp_path / "x.npz"
    options = ["--sampler", "k-gillespie", "--method", "jys", "--nfe", 2, 4, "--sequences", 4]
    code, out, _ = run(capsys, "optimize", "countdown-exact", *options, "-o", file)
    assert code == 0
    counts = json.loads(file.read_text())["schedules"][1]["counts"]
    assert sum(counts) == 256
    assert " ".join(map(str, counts)) in out
    chosen = ["--schedule", file, "--nfe", 4, "-n", 2, "-o", samples]
    assert run(capsys, "sample", "countdown-exact", "--sampler", "k-gillespie", *chosen)[0] == 0
    assert (
        run(capsys, "sample", "countdown-exact", *chosen)[0] == 0
    )  # the schedule says which sampler
    code, _, err = run(capsys, "sample", "countdown-exact", "--sampler", "tweedie", *chosen)
    assert code == 1
    assert "sampler tweedie takes a TimeSchedule, got CountSchedule" in err


def test_a_schedule_is_sampled_with_its_own_sampler(tmp_path, capsys):
    file, samples = tmp_path / "s.json", tmp_path / "x.npz"
    options = ["--sampler", "theta-trapezoidal", "--method", "jys", "--nfe", 4, "--sequences", 4]
    assert run(capsys, "optimize", "countdown-exact", *options, "-o", file)[0] == 0
    assert (
        run(
            capsys,
            "sample",
            "countdown-exact",
            "--schedule",
            file,
            "--nfe",
            4,
            "-n",
            2,
            "-o",
            samples,
        )[0]
        == 0
    )
    assert np.load(samples)["nfe"] == 4


def test_the_fewest_steps_and_the_curve(tmp_path, capsys):
    file, curve = tmp_path / "s.json", tmp_path / "c.png"
    options = ["--sequences", 4, "-o", file, "--curve", curve]
    code, out, _ = run(capsys, "optimize", "countdown-exact-uniform", "--tolerance", 5, *options)
    assert code == 0
    (entry,) = json.loads(file.read_text())["schedules"]
    assert entry["provenance"]["predicted_cost"] <= 5
    assert f"NFE {entry['nfe']}: 1.0000" in out
    assert curve.read_bytes().startswith(b"\x89PNG")
    curve.unlink()
    code, _, err = run(
        capsys, "optimize", "countdown-exact", "--nfe", 2, "--method", "equal-error", *options
    )
    assert code == 1
    assert "equal-error does not predict errors" in err
    assert not curve.exists()


def test_orders_by_name(tmp_path, capsys):
    file, samples, results = tmp_path / "s.json", tmp_path / "x.npz", tmp_path / "r.json"
    options = ["--nfe", 2, 4, "--sequences", 4]
    assert (
        run(capsys, "optimize", "countdown-exact", "--order", "spread", *options, "-o", file)[0]
        == 0
    )
    entry = json.loads(file.read_text())["schedules"][1]
    assert entry["order"] == {"type": "spread", "layout": None}
    assert sum(entry["counts"]) == 256
    assert entry["provenance"]["method"] == "shortest-path-spread"
    assert entry["provenance"]["sampler"] == "k-gillespie"
    assert entry["provenance"]["model_calls"] == 28
    assert (
        run(
            capsys,
            "sample",
            "countdown-exact",
            "--schedule",
            file,
            "--nfe",
            4,
            "-n",
            2,
            "-o",
            samples,
        )[0]
        == 0
    )
    assert (
        run(
            capsys,
            "sample",
            "countdown-exact",
            "--order",
            "golden",
            "--nfe",
            4,
            "-n",
            2,
            "-o",
            samples,
        )[0]
        == 0
    )
    learned = tmp_path / "learned.json"
    asked = ["--nfe", 2, "--sequences", 20, "--order", "learned", "-o", learned]
    assert run(capsys, "optimize", "countdown-exact", *asked)[0] == 0
    entry = json.loads(learned.read_text())["schedules"][0]
    assert sorted(entry["order"]["permutation"]) == list(range(256))
    assert entry["provenance"]["method"] == "shortest-path-learned"
    assert entry["provenance"]["model_calls"] == 16 + 28
    assert (
        run(
            capsys,
            "sample",
            "countdown-exact",
            "--schedule",
            learned,
            "--nfe",
            2,
            "-n",
            2,
            "-o",
            samples,
        )[0]
        == 0
    )
    named = ["--schedules", "uniform", "shortest-path-golden", file]
    code, out, _ = run(
        capsys, "compare", "countdown-exact", *options, *named, "-n", 4, "-o", results
    )
    assert code == 0
    assert "shortest-path-golden" in out
    for arguments, message in [
        (
            ["sample", "countdown-exact", "--order", "spread", "--schedule", file, "--nfe", 4],
            "holds its own order",
        ),
        (
            ["optimize", "countdown-exact", "--order", "spread", "--method", "jys", "--nfe", 4],
            "does not know reveal orders",
        ),
        (
            [
                "optimize",
                "countdown-exact",
                "--order",
                "spread",
                "--sampler",
                "tweedie",
                "--nfe",
                4,
            ],
            "spread order use k-gillespie",
        ),
        (
            [
                "optimize",
                "countdown-exact",
                "--order",
                "learned",
                "--sampler",
                "tweedie",
                "--nfe",
                4,
            ],
            "needs k-gillespie",
        ),
        (
            ["optimize", "countdown-exact", "--order", "inwards", "--nfe", 4],
            "there is no order 'inwards'; choose random or spread",
        ),
        (
            ["optimize", "countdown-exact-uniform", "--order", "spread", "--nfe", 4],
            "serves the absorbing kernel",
        ),
    ]:
        code, _, err = run(capsys, *arguments)
        assert code == 1
        assert message in err


def test_explain(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(
        capsys, "explain", "toy-uniform", "--nfe", 2, 3, "--sequences", 50, "--device", "cpu"
    )
    assert code == 0
    for title in (
        "uniform, 2 steps",
        "uniform, 3 steps",
        "shortest-path, 2 steps",
        "shortest-path, 3 steps",
    ):
        assert f"\n{title}\n" in out
    assert out.count("KL(data || samples): Tweedie") == 4
    assert not any(tmp_path.iterdir())
    named = ["--schedules", "shortest-path-spread", "--nfe", 2, "--sequences", 4]
    code, _, err = run(capsys, "explain", "countdown-exact", *named)
    assert (code, err) == (
        1,
        "error: only schedules of times can be explained; leave out those of jumps\n",
    )


def given_file(path, rows, free):
    """Countdowns from 31 that break off, then ``free`` sites; the tokens at free sites are none."""
    tokens = np.full((rows, 256), -1)
    tokens[:, :-free] = np.arange(256 - free)[::-1] % 32
    tokens[:, 0] = np.arange(rows)
    np.savez(
        path,
        tokens=tokens.squeeze(0) if rows == 1 else tokens,
        mask=(tokens >= 0).squeeze(0) if rows == 1 else tokens >= 0,
    )
    return tokens


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("sampler", ["tweedie", "k-gillespie", "first-hitting"])
def test_given_sites_stay_in_every_sample(tmp_path, capsys, rows, sampler):
    tokens = given_file(tmp_path / "g.npz", rows, 8)
    options = [
        "--sampler",
        sampler,
        *([] if sampler == "first-hitting" else ["--nfe", 2]),
        "--given",
        tmp_path / "g.npz",
    ]
    asked = ["sample", "countdown-exact", *options, "--batch", 2, "-o", tmp_path / "x.npz"]
    code, _, err = run(capsys, *asked, "-n", 5)
    assert (code, err) == (0, "")
    content = np.load(tmp_path / "x.npz")
    assert (content["samples"][:, :-8] == tokens[:, :-8]).all()
    assert len(np.unique(content["samples"][:, -8:], axis=0)) > 1
    assert content["nfe"] == (8 if sampler == "first-hitting" else 2)
    assert not (tmp_path / "x.txt").exists()
    if rows > 1:
        code, _, err = run(capsys, *asked, "-n", 4)
        assert (code, err.count("\n")) == (1, 1)
        assert "gives sites of 5 sequences, and 4 samples were asked for; pass -n 5" in err


def test_a_search_with_given_sites_is_that_of_the_library(tmp_path, capsys):
    data, given = tmp_path / "d.npy", tmp_path / "g.npz"
    np.save(data, np.tile(np.arange(256)[::-1] % 32, (4, 1)))
    mask = np.zeros((3, 256), bool)
    for row, sites in enumerate((64, 128, 160)):
        mask[row, :sites] = True
    np.savez(given, tokens=np.zeros_like(mask, dtype=int), mask=mask)
    times = []
    for option in ([], ["--given", given]):
        asked = [
            "optimize",
            "countdown-exact",
            "--nfe",
            4,
            "--data",
            data,
            *option,
            "-o",
            tmp_path / "s.json",
        ]
        assert run(capsys, *asked)[0] == 0
        times.append(json.loads((tmp_path / "s.json").read_text())["schedules"][0])
    assert times[1]["provenance"]["data"].endswith(", 104 of 256 sites given")  # rows 0, 1, 2, 0
    reverse, generator = load("countdown-exact").reverse, torch.Generator().manual_seed(0)
    tokens, _ = load_tokens(data, 64, generator)
    rows = torch.from_numpy(mask[[0, 1, 2, 0]])
    expected = optimize_schedule(reverse, tokens, [4], generator=generator, given_mask=rows)[4]
    assert tuple(times[1]["times"]) == expected.times
    assert times[0]["times"] != times[1]["times"]
    counted = ["--sampler", "k-gillespie", "--nfe", 4]
    code, _, err = run(
        capsys,
        "optimize",
        "countdown-exact",
        *counted,
        "--data",
        data,
        "--given",
        given,
        "-o",
        tmp_path / "k.json",
    )
    assert code == 1
    assert "sequences have 96 to 192 free sites" in err
    code, _, err = run(
        capsys,
        "sample",
        "countdown-exact",
        *counted,
        "-n",
        3,
        "--given",
        given,
        "-o",
        tmp_path / "x.npz",
    )
    assert code == 1
    assert "the given sites leave 96 to 192 free; jumps are counted" in err


def test_comparisons_and_explanations_with_given_sites(tmp_path, capsys):
    given_file(tmp_path / "g.npz", 1, 2)
    named = [
        "--schedules",
        "uniform",
        "shortest-path",
        "--nfe",
        2,
        "--sequences",
        4,
        "--given",
        tmp_path / "g.npz",
    ]
    code, _, _ = run(
        capsys, "compare", "countdown-exact", *named, "-n", 4, "-o", tmp_path / "r.json"
    )
    assert code == 0
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["given"] == str(tmp_path / "g.npz")
    assert all(
        row["metric"]["mean"] <= 2 / 255 for row in content["rows"]
    )  # two pairs have a free site
    np.savez(tmp_path / "t.npz", tokens=[3, 0, 0, 0], mask=[True, False, False, False])
    asked = [
        "explain",
        "toy-absorbing",
        "--nfe",
        2,
        "--sequences",
        50,
        "--device",
        "cpu",
        "--schedules",
        "uniform",
    ]
    code, out, _ = run(capsys, *asked, "--given", tmp_path / "t.npz")
    assert code == 0
    assert "1 of 4 sites given" in out
    assert "KL(data || samples)" not in out
    assert "KL(data || samples)" in run(capsys, *asked)[1]


@pytest.fixture
def sung(monkeypatch):
    """countdown-exact with a task that writes .txt files and reads given sites from text; the samples and masks it wrote."""

    def read_given(path, length):
        tokens = torch.tensor([int(word) for word in path.read_text().split()] + [0] * length)[
            :length
        ]
        return Given(tokens, torch.arange(length) < len(path.read_text().split()))

    def write(path, sample, mask):
        written[path.name] = (sample, mask)
        path.with_name(path.name + ".txt").write_text("song")

    written, model = {}, load("countdown-exact")
    model = replace(model, task=replace(model.task, write=write, read_given=read_given))
    monkeypatch.setattr("jumpsteps.cli.inputs.load", lambda name, **options: model)
    return written


@pytest.mark.parametrize("out", ["out/", "out", "v1.0/", "there.is"])
def test_a_task_writes_each_sample_into_a_folder(tmp_path, capsys, monkeypatch, sung, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.is").mkdir()
    (tmp_path / "s.song").write_text("7 6 5")
    code, said, err = run(
        capsys, "sample", "m", "--nfe", 1, "-n", 10, "--given", "s.song", "-o", out
    )
    assert (code, err) == (0, "")
    names = [f"sample-{i:02d}" for i in range(1, 11)]
    assert {path.name for path in (tmp_path / out).iterdir()} == {
        "samples.npz",
        *(f"{name}.txt" for name in names),
    }
    assert "written to {0}/samples.npz and {0}/sample-*\n".format(out.rstrip("/")) in said
    samples = torch.from_numpy(np.load(tmp_path / out / "samples.npz")["samples"])
    assert list(sung) == names
    assert torch.equal(torch.stack([sample for sample, _ in sung.values()]), samples)
    assert (samples[:, :3] == torch.tensor([7, 6, 5])).all()
    assert all(torch.equal(mask, torch.arange(256) < 3) for _, mask in sung.values())


def test_given_sites_of_each_sample_go_with_it_and_npz_files_are_read_as_ever(
    tmp_path, capsys, sung
):
    mask = np.arange(256) < np.array([[4], [9]])
    np.savez(tmp_path / "g.npz", tokens=np.full((2, 256), 3), mask=mask)
    asked = ["sample", "m", "--nfe", 1, "-n", 2]
    assert run(capsys, *asked, "--given", tmp_path / "g.npz", "-o", tmp_path / "out")[0] == 0
    assert np.array_equal([mask for _, mask in sung.values()], mask)
    assert all((sample[mask] == 3).all() for sample, mask in sung.values())
    assert run(capsys, *asked, "-o", tmp_path / "free")[0] == 0
    assert [mask for _, mask in sung.values()] == [None, None]
    sung.clear()
    assert run(capsys, *asked, "-o", tmp_path / "x.npz")[0] == 0
    assert not sung
    assert (tmp_path / "x.npz").is_file()


def test_a_search_reads_given_sites_by_the_task(tmp_path, capsys, sung):
    (tmp_path / "s.song").write_text("7 6 5")
    asked = [
        "optimize",
        "m",
        "--nfe",
        2,
        "--sequences",
        2,
        "--given",
        tmp_path / "s.song",
        "-o",
        tmp_path / "s.json",
    ]
    assert run(capsys, *asked)[0] == 0
    (entry,) = json.loads((tmp_path / "s.json").read_text())["schedules"]
    assert entry["provenance"]["data"] == "countdown, 3 of 256 sites given"


def test_folders_that_cannot_be(tmp_path, capsys, monkeypatch, sung):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    code, _, err = run(capsys, "sample", "m", "--nfe", 1, "-o", "taken")
    assert (code, err.count("\n")) == (1, 1)
    assert "taken is a file, and the samples need a folder" in err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "sample", "countdown-exact", "--nfe", 1, "-o", "out/")
    assert (code, err) == (1, "error: out/ is a folder; name a file to write to\n")
    assert run(capsys, "sample", "countdown-exact", "--nfe", 1, "-n", 1, "-o", "plain")[0] == 0
    assert np.load("plain")["samples"].shape == (1, 256)
    assert (tmp_path / "taken").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "plain"}

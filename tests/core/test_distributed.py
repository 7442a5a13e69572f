"""What launchers say of a process, and the part of the work that is its own."""

from types import SimpleNamespace

import pytest
import torch

from jumpsteps.core.distributed import ALONE, Launch, Workers, launch_of

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "n01",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-07,12]",
    "SLURM_JOB_ID": "123456",
}


def test_a_process_alone():
    tensor = torch.tensor([1.0, 2.0])
    ALONE.average(tensor)
    ALONE.wait()
    assert tensor.tolist() == [1.0, 2.0]
    assert ALONE.is_first
    assert ALONE.share(7) == 7
    assert ALONE.of_first(0.1, tensor.device) == 0.1


def test_a_batch_that_cannot_be_divided():
    assert Workers(1, 4).share(8) == 2
    with pytest.raises(ValueError, match=r"batch of 10 cannot be divided among 4 .* --batch 8"):
        Workers(1, 4).share(10)


def test_torchrun_and_accelerate_say_which_process_this_is():
    assert launch_of(TORCHRUN) == Launch(3, 4, 1)
    assert launch_of(TORCHRUN | SRUN) == Launch(3, 4, 1)
    assert launch_of(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}) == Launch()
    assert launch_of({}) == Launch()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[03-07,12]", "gpu03"),
        ("gpu3,gpu5", "gpu3"),
        ("a-b1", "a-b1"),
        ("r[1,4]n", "r1n"),
        ("c[01-02].site.org,d1", "c01.site.org"),
    ],
)
def test_srun_says_which_process_this_is(nodes, first):
    found = launch_of(SRUN | {"SLURM_STEP_NODELIST": nodes})
    assert found == Launch(3, 4, 1, f"tcp://{first}:{20000 + 123456 % 20000}")
    named = launch_of(SRUN | {"MASTER_ADDR": "x", "MASTER_PORT": "7"})
    assert named.url == "tcp://x:7"


def test_a_batch_script_of_slurm_is_one_process():
    """It has the variables of the job, but of no step with several tasks."""
    script = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert launch_of(script) == Launch()
    assert launch_of(SRUN | {"SLURM_STEP_NUM_TASKS": "1"}) == Launch()


def test_variables_that_say_nothing():
    with pytest.raises(ValueError, match="the launcher's variable LOCAL_RANK is 'x', which is no"):
        launch_of(TORCHRUN | {"LOCAL_RANK": "x"})
    with pytest.raises(ValueError, match=r"LOCAL_RANK is not set; start with torchrun, .* or srun"):
        launch_of({name: value for name, value in TORCHRUN.items() if name != "LOCAL_RANK"})
    with pytest.raises(ValueError, match="SLURM_STEP_NODELIST names no node; set MASTER_ADDR"):
        launch_of(SRUN | {"SLURM_STEP_NODELIST": ""})


@pytest.mark.parametrize(
    ("launch", "gpus", "expected"),
    [
        (Launch(3, 4, 1), 2, "cuda:1"),
        (Launch(3, 4, 1, "tcp://n:1"), 1, "cuda:0"),  # Slurm shows each task its own GPU.
        (Launch(3, 4, 2), 2, None),
        (Launch(3, 4, 1), 1, None),
    ],
)
def test_every_process_has_a_gpu_of_its_own(launch, gpus, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert launch.device(torch.device("cpu")) == torch.device("cpu")
    assert Launch().device(torch.device("cuda", 5)) == torch.device("cuda", 5)
    if expected is None:
        with pytest.raises(ValueError, match=f"has {gpus} GPUs, and process {launch.local} finds"):
            launch.device(torch.device("cuda"))
    else:
        assert launch.device(torch.device("cuda")) == torch.device(expected)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_parts_are_equal_and_complete(count):
    ranges = [range(3, 5), range(9, 10), range(20, 31)]
    parts = [Workers(rank, count).part_of(ranges, 1) for rank in range(count)]
    numbers = [i for part in parts for one in part for i in one]
    assert numbers == [i for one in ranges for i in one]
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(part for one in parts for part in one)


def test_processes_on_one_gpu_are_refused(monkeypatch):
    """As Slurm starts them if it binds no GPUs: each sees one, the same or its own."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    seen, gpu, store = ["a", "b", "a"], torch.device("cuda"), torch.distributed.HashStore()
    processes = [Workers(k, 3, store, Launch(k, 3, k, "tcp://n03:20000")) for k in range(3)]
    for process, uuid in zip(processes, seen, strict=True):
        about = SimpleNamespace(uuid=uuid)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, about=about: about)
        if process.rank == 2:
            with pytest.raises(ValueError, match=r"processes 0 and 2 have the same GPU; start one"):
                process.device(gpu)
        else:
            assert [process.device(gpu).type for _ in range(2)] == ["cuda", "cuda"]
        assert process.device(torch.device("cpu")).type == "cpu"


def test_parts_are_whole_batches_where_that_is_nearly_even():
    def parts(n, batch, count):
        return [Workers(rank, count).part_of([range(n)], batch) for rank in range(count)]

    assert parts(2000, 256, 2) == [[range(1024)], [range(1024, 2000)]]
    assert parts(1024, 256, 3) == [[range(341)], [range(341, 682)], [range(682, 1024)]]
    assert parts(8, 256, 2) == [[range(4)], [range(4, 8)]]
    ranges = [range(96), range(100, 132)]
    assert Workers(0, 2).part_of(ranges, 16) == [range(64)]
    assert Workers(1, 2).part_of(ranges, 16) == [range(64, 96), range(100, 132)]


def test_rows_are_shared_and_no_process_has_none():
    rows = [Workers(rank, 3).rows_of(5).tolist() for rank in range(3)]
    assert rows == [[0, 3], [1, 4], [2]]
    assert Workers(2, 3).rows_of(2).tolist() == [0]


def test_alone_has_all():
    values, owners = torch.arange(4.0), torch.zeros(4, dtype=torch.int64)
    assert ALONE.gathered(values, owners) is values
    assert ALONE.ranges_of_first(lambda: [range(2), range(5, 6)]) == [range(2), range(5, 6)]
    assert ALONE.bytes_of_first(2, lambda: b"ab") == b"ab"
    assert ALONE.tally("samples") is None

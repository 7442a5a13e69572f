"""Programs, and commands of jumpsteps, in several processes that work together.

As a script it reads lines [FOLDER, COUNT, COMMANDS] of JSON, where COMMANDS is a list of lists of
words, and answers each when its commands have ended. The k-th command's process r prints to
FOLDER/k-r.out and FOLDER/k-r.err, and its exit code is written to FOLDER/k-r.code. A first word
"KILL" kills the last process of the command when it has kept some samples, "FAIL" makes it fail.

Every process is a child of the script, which has no threads, so that the package is imported once.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from jumpsteps.cli.main import main
from jumpsteps.sampling import run_folder
from jumpsteps.sampling.run_folder import Parts

LONGEST = 240
"""Seconds after which a process that waits for others is ended."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ending(how: str) -> None:
    """The next part but two that this process keeps is its end."""
    save, kept = Parts.save, []

    def save_and_end(parts: Parts, first: int, runs: object) -> None:
        save(parts, first, runs)
        kept.append(first)
        if len(kept) == 2 and how == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if len(kept) == 2:
            raise OSError("the disk of process 1 is full")

    Parts.save = save_and_end


def launched(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables that torchrun gives a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    return {name: str(number) for name, number in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}


def start(folder: Path, k: int, rank: int, count: int, port: int, words: list[str]) -> int:
    """The process of this rank."""
    if child := os.fork():
        return child
    os.environ |= launched(rank, count, port)
    signal.alarm(LONGEST)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{k}-{rank}.{name}", os.O_CREAT | os.O_WRONLY), number)
    run_folder.SAVE_EVERY = 0.0
    if words[0] in ("KILL", "FAIL"):
        if rank == count - 1:
            ending(words[0])
        words = words[1:]
    code = main(words)
    sys.stdout.flush()
    os._exit(code)


def run(folder: Path, count: int, commands: list[list[str]]) -> None:
    for k, words in enumerate(commands):
        port = free_port()
        children = [start(folder, k, rank, count, port, words) for rank in range(count)]
        for rank, child in enumerate(children):
            status = os.waitpid(child, 0)[1]
            (folder / f"{k}-{rank}.code").write_text(str(os.waitstatus_to_exitcode(status)))


PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}


def run_program(folder: Path, count: int, text: str) -> list[Any]:
    """What each process of a program writes as JSON to rank0.json, rank1.json, ... of the folder
    that is its argument. It ends as the command does, without the interpreter's exit.
    """
    (folder / "program.py").write_text(f"{text}\nimport os\nos._exit(0)\n")
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, str(folder / "program.py"), str(folder)],
            env=os.environ | PATHS | launched(rank, count, port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(count)]


class Together:
    """Runs commands in several processes, which are children of one script."""

    def __enter__(self) -> "Together":
        self.script = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | PATHS,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.script.communicate()

    def __call__(
        self, folder: Path, count: int, *commands: list[Any]
    ) -> list[list[tuple[int, str, str]]]:
        """Exit code, standard output and standard error of each process of each command."""
        folder.mkdir(exist_ok=True)
        words = [[str(word) for word in command] for command in commands]
        assert self.script.stdin is not None
        assert self.script.stdout is not None
        print(json.dumps([str(folder), count, words]), file=self.script.stdin, flush=True)
        assert self.script.stdout.readline() == "done\n"

        def said(k: int, rank: int) -> tuple[int, str, str]:
            code, out, err = (
                (folder / f"{k}-{rank}.{name}").read_text() for name in ("code", "out", "err")
            )
            return int(code), out, err

        return [[said(k, rank) for rank in range(count)] for k in range(len(commands))]


if __name__ == "__main__":
    for line in sys.stdin:
        where, processes, asked = json.loads(line)
        run(Path(where), processes, asked)
        print("done", flush=True)

"""A script that runs commands of jumpsteps, each in several processes that work together.

    python -P together.py FOLDER COUNT COMMANDS

COMMANDS is a list of lists of words, as JSON. The k-th command's process r prints to
FOLDER/k-r.out and FOLDER/k-r.err, and its exit code is written to FOLDER/k-r.code. A first word
"KILL" kills the last process of the command when it has kept some samples, "FAIL" makes it fail.

Every process is a child of this one, which has no threads, so that the package is imported once.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from jumpsteps.cli.main import main
from jumpsteps.sampling import run_folder
from jumpsteps.sampling.run_folder import Parts


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


def start(folder: Path, k: int, rank: int, count: int, port: int, words: list[str]) -> int:
    """The process of this rank."""
    if child := os.fork():
        return child
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
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


def together(folder: Path, count: int, *commands: list[str]) -> list[list[tuple[int, str, str]]]:
    """Exit code, standard output and standard error of each process of each command."""
    folder.mkdir(exist_ok=True)
    words = json.dumps([[str(word) for word in command] for command in commands])
    arguments = [sys.executable, "-P", __file__, str(folder), str(count), words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run(arguments, check=True, timeout=300, env=environment)

    def said(k: int, rank: int) -> tuple[int, str, str]:
        code, out, err = (
            (folder / f"{k}-{rank}.{name}").read_text() for name in ("code", "out", "err")
        )
        return int(code), out, err

    return [[said(k, rank) for rank in range(count)] for k in range(len(commands))]


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))

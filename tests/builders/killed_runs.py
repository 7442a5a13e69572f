"""A script that runs a command of jumpsteps, kills it and runs it again.

    python -P killed_runs.py PARTS KILLS SEED COMMAND...

Every run is a child of this process, which has no threads, so that the package is imported once.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from jumpsteps.cli.main import main
from jumpsteps.sampling import run_folder


def start(words: list[str]) -> int:
    """The process of a command that saves after every batch."""
    if child := os.fork():
        return child
    run_folder.SAVE_EVERY = 0.0
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os._exit(main(words))


def run(parts: Path, kills: int, seed: int, words: list[str]) -> None:
    """Kill so many runs, each a random time after it has kept some samples; the last run ends."""
    chance = random.Random(seed)
    for _ in range(kills):
        before, child = set(parts.rglob("samples-*")), start(words)
        while set(parts.rglob("samples-*")) <= before:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it was killed"
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "it ended before it was killed"
    assert os.waitpid(start(words), 0)[1] == 0


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])

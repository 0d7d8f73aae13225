"""Two programs measured against each other in slices of time: while one runs, the other stands still.

Two runs after each other lie 14 % apart on a shared machine, since its speed changes from one second to the next; what
slices of a quarter of a second do to one program they do to the other, and their ratio lies 2 % apart.

`python -m vpipe.models.slices JSON` is vpipe's side: a model that is kept busy.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from vpipe.child import bound, child_environment
from vpipe.engine import Manifest, Setup, engine_cost
from vpipe.errors import RunError

SLICE_S = 0.25
"""Short beside the time in which a machine changes its speed, long beside a batch."""
SETTLE_S = 0.02
"""From a program's word that it begins to its first slice: it may still have to look at the clock."""
BEGUN = "the measurement begins"
"""What vpipe's side says then."""


class Program:
    """A program that is under way, standing still but for its slices; a context manager, which ends it.

    It does not outlive this process.

    Args:
        command: The program, by its path.
        begins: What is in the line that it prints when its measurement begins.
        folder: Where it runs; here if not given.

    Raises:
        RunError: It ended before it said so.
    """

    def __init__(self, command: Sequence[str], begins: str, folder: Path | None = None) -> None:
        self._name = Path(command[0]).name
        self._stopped_s = 0.0
        self._process = subprocess.Popen(
            bound(command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=child_environment(),
            cwd=folder,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        told = ""
        for line in self._output:
            if begins in line:
                time.sleep(SETTLE_S)
                self._stop()
                return
            told = line.strip() or told
        code = self._process.wait()
        self._output.close()
        raise RunError(f"{self._name} failed with exit code {code}: {told or 'no output'}")

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _stop(self) -> None:
        self._since = time.monotonic()
        self._process.send_signal(signal.SIGSTOP)

    def run(self, seconds: float | None) -> bool:
        """Let it run so long, None for as long as it wants; returns whether it has ended."""
        self._stopped_s += time.monotonic() - self._since
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._stop()
            return False
        return True

    def end(self) -> None:
        """Ask it to come to an end (SIGTERM), and let it."""
        self._process.send_signal(signal.SIGTERM)
        self.run(None)

    def result(self) -> tuple[str, float]:
        """Return what it printed while it was measured, and for how many seconds of that it stood still.

        Raises:
            RunError: It failed.
        """
        told = self._output.read()
        if self._process.returncode:
            last = (told.strip().splitlines() or ["no output"])[-1]
            raise RunError(f"{self._name} failed with exit code {self._process.returncode}: {last}")
        return told, self._stopped_s


def in_slices(program: Program, other: Program) -> None:
    """Run two programs by turns until the other one has ended, and then end the first."""
    while not other.run(SLICE_S):
        if program.run(SLICE_S):
            raise RunError("a program that was measured ended by itself")
    program.end()


def engine_program(manifest: Manifest, setup: Setup) -> Program:
    """Return a program that keeps a model busy until its end is asked for, and prints what `_measure` says."""
    job = {"model": str(manifest.path), "setup": {**dataclasses.asdict(setup), "cache_dir": None}}
    return Program([sys.executable, "-m", __name__, json.dumps(job)], BEGUN)


def _measure(job: str) -> None:
    """Be that program; prints a line of JSON with the `frames` that came out and the `seconds` that it took."""
    told, ended = json.loads(job), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    manifest, setup = Manifest.load(Path(told["model"])), Setup(**told["setup"])
    cost = engine_cost(manifest, setup, seconds=math.inf, begins=lambda: print(BEGUN), ends=ended.is_set)
    print(json.dumps({"frames": cost.frames, "seconds": cost.frames / cost.fps}))


if __name__ == "__main__":
    _measure(sys.argv[1])

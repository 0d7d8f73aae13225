"""One worker process as the supervisor sees it: start, watch, end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque

from vpipe.control import Channel, Message
from vpipe.log import log

LAST_LINES = 20
"""Log lines of a worker that are kept for error messages."""


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: the parent's, its import path, and no hidden thread pools."""
    # Workers import what the parent can import; -P keeps the current directory out unless the parent had it.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    pools = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **pools, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class WorkerProcess:
    """A running worker, its channel, its counters page and the last lines it wrote."""

    def __init__(self, name: str, stage: str, assignment: Message, descriptors: list[int], page_fd: int) -> None:
        """Start the worker.

        Args:
            name: For people, for example `decode[1]`.
            stage: One of `vpipe.worker.STAGES`.
            assignment: Its rings' handles, settings and limits.
            descriptors: What it inherits, under the same numbers.
            page_fd: Its counters' memory.
        """
        self.name = name
        self.stage = stage
        self.started = time.monotonic()
        self.ready = False
        self.ended = False
        self.crash: Message | None = None
        self.kill_reason: str | None = None
        self.hung = False
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        self.channel, theirs = Channel.pair()
        # What it writes is read at every turn of the loop, so it never stops on a full pipe.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vpipe.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno(), page_fd, *descriptors],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=worker_environment(),
        )
        theirs.close()
        assert self.process.stdout is not None
        self.output = self.process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.channel.send({"op": "start", "stage": stage, "parent": os.getpid(), "page_fd": page_fd, **assignment})

    def read_output(self) -> bool:
        """Keep the lines it has written, and pass them to the log; False when there will be no more."""
        try:
            data = os.read(self.output.fileno(), 1 << 16)
        except BlockingIOError:
            return True
        for line in data.decode(errors="replace").splitlines():
            self.lines.append(line)
            log.warning("%s: %s", self.name, line)
        return bool(data)

    def kill(self, reason: str) -> None:
        """Kill it at once; `reason` goes into messages."""
        self.kill_reason = self.kill_reason or reason
        if self.process.poll() is None:
            self.process.kill()

    def how_it_ended(self) -> str:
        """Say in a few words why it ended; call after it has ended."""
        if self.kill_reason is not None:
            return self.kill_reason
        if self.crash is not None:
            return str(self.crash["error"])
        code = self.process.returncode
        if code is None:
            return "it is still running"
        last = f"; last line: {self.lines[-1]}" if self.lines else ""
        if code < 0:
            return f"the worker was killed by {signal.Signals(-code).name}{last}"
        return f"the worker ended with exit code {code}{last}"

    def reap(self) -> None:
        """Wait for its end (it is killed if it lingers) and close what belonged to it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        if self.process.returncode is None:
            self.kill("it closed its channel but did not end")
            self.process.wait()
        self.read_output()
        self.output.close()
        self.channel.close()
        self.ended = True


class RestartBudget:
    """How often one worker may be started again within a window."""

    def __init__(self, restarts: int, window_s: float) -> None:
        self.restarts = restarts
        self.window_s = window_s
        self._times: dict[str, deque[float]] = {}

    def spend(self, name: str) -> bool:
        """Note a restart of `name` now; False when there have been too many."""
        times = self._times.setdefault(name, deque())
        now = time.monotonic()
        while times and now - times[0] > self.window_s:
            times.popleft()
        times.append(now)
        return len(times) <= self.restarts

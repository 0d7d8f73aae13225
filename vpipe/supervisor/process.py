"""One worker process as the supervisor sees it: start, watch, end."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence

from vpipe.child import readable
from vpipe.control import Channel, Message
from vpipe.errors import ResourceError
from vpipe.forkserver import Forked, ForkServer, ServerGone, obtain
from vpipe.log import log

LAST_LINES = 20
"""Log lines of a worker that are kept for error messages."""
LONGEST_LINE = 1 << 14
"""Bytes; what a worker writes without an end of line is cut here."""
SERVER_TRIES = 3
"""Fork servers that are started for one worker."""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"


class WorkerProcess:
    """A running worker, its channel, its counters page and the last lines it wrote."""

    def __init__(
        self, forks: Forks, name: str, stage: str, assignment: Message, descriptors: list[int], page_fd: int
    ) -> None:
        """Start the worker.

        Args:
            forks: Starts it.
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
        self._line = b""
        try:
            with contextlib.ExitStack() as given, contextlib.ExitStack() as kept:
                self.channel, theirs = Channel.pair()
                kept.callback(self.channel.close)
                given.enter_context(theirs)
                # What it writes is read at every turn of the loop, so it never stops on a full pipe.
                end, written = os.pipe()
                self.output = kept.enter_context(open(end, "rb", buffering=0))
                given.callback(os.close, written)
                same = {each: each for each in (theirs.fileno(), page_fd, *descriptors)}
                self.process = forks.fork([str(theirs.fileno()), name], {1: written, 2: written, **same})
                kept.pop_all()
        except OSError as error:
            raise ResourceError(
                f"{name}: cannot be started: {error.strerror}; raise the limits on processes and open files "
                f"(ulimit -u, ulimit -n) or lower decode.workers"
            ) from None
        os.set_blocking(end, False)
        self.channel.send({"op": "start", "stage": stage, "page_fd": page_fd, **assignment})

    def read_output(self) -> bool:
        """Keep the lines it has written, and pass them to the log; False when there will be no more."""
        try:
            data = os.read(self.output.fileno(), 1 << 16)
        except BlockingIOError:
            return True
        *lines, self._line = (self._line + data).split(b"\n")
        if self._line and (not data or len(self._line) > LONGEST_LINE):
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            self.lines.append(text)
            log.warning("%s: %s", self.name, text)
        return bool(data)

    def await_end(self, timeout_s: float) -> None:
        """Wait so long at most for it to write or to end; what it writes is kept."""
        if not self._readable(timeout_s) or self.read_output():
            return
        with contextlib.suppress(subprocess.TimeoutExpired):  # its output has ended: it is ending as well
            self.process.wait(timeout_s)

    def kill(self, reason: str) -> None:
        """Kill it at once; `reason` goes into messages."""
        self.kill_reason = self.kill_reason or reason
        self.process.kill()

    def how_it_ended(self) -> str:
        """Say in a few words why it ended; call after it has ended."""
        if self.kill_reason is not None:
            return self.kill_reason
        code = self.process.returncode
        if self.crash is not None:
            return f"{self.crash['error']} (exit code {code})"
        if code is None:
            return "it is still running"
        last = f"; last line: {self.lines[-1]}" if self.lines else ""
        if code < 0:
            return f"the worker was killed by {_signal_name(-code)}{last}"
        return f"the worker ended with exit code {code}{last}"

    def reap(self) -> None:
        """Wait for its end (it is killed if it lingers) and close what belonged to it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        if self.process.returncode is None:
            self.kill("it closed its channel but did not end")
            self.process.wait()
        while self.read_output() and self._readable():
            pass
        self.output.close()
        self.channel.close()
        self.ended = True

    def _readable(self, timeout_s: float = 0.0) -> bool:
        return bool(readable([self.output.fileno()], timeout_s))


class Forks:
    """Starts workers by a fork server, which is replaced where it has ended."""

    def __init__(self) -> None:
        self._server: ForkServer | None = None

    @property
    def pid(self) -> int | None:
        """The server's process."""
        return None if self._server is None else self._server.pid

    def fork(self, arguments: Sequence[str], descriptors: dict[int, int]) -> Forked:
        """Start a worker; see `vpipe.forkserver.ForkServer.fork`.

        Raises:
            OSError: There are no more processes or descriptors to be had.
        """
        for _ in range(SERVER_TRIES):
            self._server = self._server or obtain()
            try:
                return self._server.fork(arguments, descriptors)
            except ServerGone:
                log.warning("the fork server has ended: it is started again, and the workers after it")
                self.close()
        raise OSError(errno.ECHILD, f"the fork server ended {SERVER_TRIES} times before it could")

    def close(self) -> None:
        """End the server; its children must have ended."""
        if self._server is not None:
            self._server.close()
            self._server = None


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

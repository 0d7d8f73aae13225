"""Workers are forked off one process that has loaded what they have in common.

NumPy, OpenCV and PyAV take 0.15 s of CPU time to load, which each worker would spend. The fork server does it once,
beside whatever its parent still has to load, and then does nothing but fork, and tell how its children ended. It has
one thread for good, so forking it is safe. It ends when its socket is closed; should its parent or itself be killed,
the kernel kills all that came of it (see `vpipe.child.bind_to_parent`).

Messages are lines of JSON over a socket pair. A request is `{"op": "fork", "numbers", "arguments"}`, with the
descriptors that the child is to have under these numbers; the answer is `{"op": "forked", "pid"}` or
`{"op": "refused", "errno"}`. At any time comes `{"op": "ended", "pid", "code"}`: that child stays a zombie, so that its
number is nobody else's, until `{"op": "reap", "pid"}` is the answer.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from vpipe.child import child_environment, readable
from vpipe.control import Channel

ANSWER_S = 30.0
"""A server that has not answered by then hangs."""
NEWS_S = 2.0
"""How long the news of a child's end may take."""
MOST_DESCRIPTORS = 253
"""In one message (Linux: SCM_MAX_FD)."""


class ServerGone(Exception):
    """The server has ended, or was killed because it did not answer; and so have its children."""


class Forked:
    """A child of the server; like `subprocess.Popen`, as far as it goes."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self.pid = pid
        self.returncode: int | None = None
        """Its exit code, or minus the signal that ended it, once it is known to have ended."""

    def poll(self) -> int | None:
        """Return `returncode` as it is now."""
        if self.returncode is None:
            self._server.hear()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It has not ended within `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = NEWS_S if until is None else until - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0.0)
            if not self._server.await_news(min(left, NEWS_S)) and _is_zombie(self.pid):
                self._server.kill()  # it hangs, or it would have told
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class ForkServer:
    """The server as its parent sees it; it is bound to the thread that starts it."""

    def __init__(self) -> None:
        """Start the server.

        Raises:
            OSError: It cannot be started.
        """
        self._children: dict[int, Forked] = {}
        self._answers: list[Forked | int] = []
        """To requests: a child, or the error's number."""
        self._sock, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "vpipe.forkserver", str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=child_environment(),
                    process_group=0,  # a terminal's Ctrl-C is for the parent to hear
                )
        except OSError:
            self._sock.close()
            raise
        self._channel = Channel(self._sock, blocking_send=True)

    @property
    def pid(self) -> int:
        """The server's own process."""
        return self._process.pid

    def fork(self, arguments: Sequence[str], descriptors: dict[int, int]) -> Forked:
        """Start `vpipe.worker` with these arguments, the server's process id put second.

        Args:
            arguments: As strings; the last one names the process.
            descriptors: What the child gets, by the number under which it does.

        Raises:
            OSError: There are no more processes or descriptors to be had.
            ServerGone: The server is no more, or did not answer.
        """
        self.hear()
        ours = list(descriptors.values())
        try:
            self._sock.setblocking(True)
            for first in range(0, len(ours), MOST_DESCRIPTORS):
                socket.send_fds(self._sock, [b" "], ours[first : first + MOST_DESCRIPTORS])
            self._sock.setblocking(False)
        except (OSError, ValueError):  # a closed socket has no number; half a request cannot be taken back
            self.kill()
            raise ServerGone from None
        self._channel.send({"op": "fork", "numbers": list(descriptors), "arguments": list(arguments)})
        until = time.monotonic() + ANSWER_S
        while not self._answers:
            self.await_news(until - time.monotonic())
            self.hear()
            if self._channel.closed or (not self._answers and time.monotonic() > until):
                self.kill()
                raise ServerGone
        answer = self._answers.pop()
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer

    def hear(self) -> None:
        """Take what the server has said, without waiting."""
        for message in self._channel.receive():
            match message["op"]:
                case "forked":
                    child = self._children[message["pid"]] = Forked(self, message["pid"])
                    self._answers.append(child)
                case "refused":
                    self._answers.append(message["errno"])
                case "ended":  # perhaps at once, and so in the same breath
                    self._children.pop(message["pid"]).returncode = message["code"]
                    self._channel.send({"op": "reap", "pid": message["pid"]})
        if self._channel.closed:
            for child in self._children.values():  # the kernel's doing
                child.returncode = -signal.SIGKILL
            self._children.clear()

    def await_news(self, timeout_s: float) -> bool:
        """Wait until the server says something or ends; False when it did not within this time."""
        return self._channel.closed or bool(readable([self._sock.fileno()], max(0.0, timeout_s)))

    def kill(self) -> None:
        """Kill the server, and its children with it."""
        self._process.kill()
        self._process.wait()
        self.hear()

    def close(self) -> None:
        """End the server; its children must have ended. May be called twice."""
        self._channel.close()
        try:
            self._process.wait(NEWS_S)
        except subprocess.TimeoutExpired:
            self.kill()


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return False


_early: list[ForkServer] = []


def start_early() -> None:
    """Start the server for this process's next run, so that it loads beside what the run needs to be planned.

    For a command line that is certain to start a run; to be called in the main thread.
    """
    with contextlib.suppress(OSError):  # whoever needs it will say so
        _early.append(ForkServer())
        atexit.register(_end_early)


def _end_early() -> None:
    while _early:
        _early.pop().kill()


def obtain() -> ForkServer:
    """Return the server that was started early, or start one.

    Raises:
        OSError: It cannot be started.
    """
    return _early.pop() if _early else ForkServer()

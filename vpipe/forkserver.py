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
import errno
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from vpipe.child import bind_to_parent, child_environment, name_process, readable
from vpipe.control import Channel

COMMON = (
    "vpipe.worker",
    "cv2",
    "vpipe.media.container",
    "vpipe.stages.decode",
    "vpipe.stages.preprocess",
    "vpipe.stages.infer",
    "vpipe.stages.postprocess",
)
"""What is loaded before the first fork. OpenVINO is not: all would wait for what one worker needs."""
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
            self._sock.sendall(_line({"op": "fork", "numbers": list(descriptors), "arguments": list(arguments)}))
            self._sock.setblocking(False)
        except (OSError, ValueError):  # a closed socket has no number; half a request cannot be taken back
            self.kill()
            raise ServerGone from None
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


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _serve(sock: socket.socket) -> None:
    """Fork and tell until the other side closes."""
    wake, alarm = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(alarm, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(wake, select.POLLIN)
    living: set[int] = set()
    inward = b""
    received: list[int] = []
    while True:
        ready = {number for number, _ in poll.poll()}
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 1 << 10)
            for pid in sorted(living):
                if (code := _ended(pid)) is not None:
                    living.discard(pid)
                    sock.sendall(_line({"op": "ended", "pid": pid, "code": code}))
        if sock.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(sock, 1 << 16, MOST_DESCRIPTORS)
        if not data:
            return
        received += descriptors
        *lines, inward = (inward + data).split(b"\n")
        for request in map(json.loads, lines):
            if request["op"] == "reap":
                os.waitpid(request["pid"], 0)
                continue
            answer = _fork(request, received)
            for each in received:
                os.close(each)
            received = []
            if "pid" in answer:
                living.add(answer["pid"])
            sock.sendall(_line(answer))


def _ended(pid: int) -> int | None:
    """Return a child's code if it has ended; it stays a zombie."""
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def _fork(request: dict[str, Any], received: list[int]) -> dict[str, Any]:
    """Fork once; returns in the parent only."""
    if len(received) != len(request["numbers"]):  # the system passes on as many as there is room for
        return {"op": "refused", "errno": errno.EMFILE}
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        return {"op": "refused", "errno": error.errno}
    if pid:
        return {"op": "forked", "pid": pid}
    try:
        _become_worker(request, received, server)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _become_worker(request: dict[str, Any], received: list[int], server: int) -> NoReturn:
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Out of the way first: a descriptor may have come under a number that another is to get.
    floor = max([*request["numbers"], *received]) + 1
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, floor) for each in received]
    os.closerange(3, floor)
    for each, number in zip(high, request["numbers"], strict=True):
        os.dup2(each, number, inheritable=False)
        os.close(each)
    first, *others = request["arguments"]
    sys.argv = ["vpipe.worker", first, str(server), *others]
    name_process("vpipe.worker", others[-1])
    importlib.import_module("vpipe.worker").main()
    os._exit(0)


def main() -> None:
    """Serve until the parent closes the socket, and end at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    bind_to_parent(int(sys.argv[2]))
    for name in COMMON:
        with contextlib.suppress(Exception):  # a worker that needs it will meet the error, and tell it
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a later collection would touch, and so copy, what children share
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()

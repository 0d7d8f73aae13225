"""The fork server itself: `python -m vpipe.forkserver FD PARENT`, see `vpipe.forkserver`."""

from __future__ import annotations

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
import sys
import traceback
from typing import Any, NoReturn

from vpipe.child import bind_to_parent, name_process
from vpipe.control import Channel
from vpipe.forkserver import MOST_DESCRIPTORS

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
    outward = Channel(sock, blocking_send=True)
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
                    outward.send({"op": "ended", "pid": pid, "code": code})
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
            outward.send(answer)


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
    gc.disable()  # what is being imported is no garbage
    for name in COMMON:
        with contextlib.suppress(Exception):  # a worker that needs it will meet the error, and tell it
            importlib.import_module(name)
    gc.enable()
    gc.freeze()  # a later collection would touch, and so copy, what children share
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()

"""What all processes that vpipe starts have in common: environment, name, how they are waited for, their parent."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterable, Sequence

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15


_BECOME = (
    "import os, sys; from vpipe.child import bind_to_parent; "
    "bind_to_parent(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
)
"""Run by a fresh interpreter, which becomes the program: code after a fork of a process with threads may deadlock."""


def import_path() -> str:
    """Return the PYTHONPATH with which a child imports what this process can import."""
    # -P keeps the current directory out unless the parent had it.
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)


def child_environment() -> dict[str, str]:
    """Return the environment of a child: the parent's, its import path, and no hidden thread pools."""
    pools = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **pools, "PYTHONPATH": import_path(), "PYTHONUNBUFFERED": "1"}


def bind_to_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; called first thing in a child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def bound(command: Sequence[str]) -> list[str]:
    """Return the command by which a program of others' is started, by its path, so that it does not outlive us.

    It needs the `child_environment`. See `bind_to_parent`.
    """
    return [sys.executable, "-c", _BECOME, str(os.getpid()), *command]


def name_process(*words: str) -> None:
    """Show these words in lists of processes, as this process's command line; the last one also as its short name.

    Linux keeps the command line where the process itself can write; as much of it is replaced as there was.
    """
    if sys.platform != "linux":
        return
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # from the third on, see proc(5)
    start, end = int(fields[48 - 3]), int(fields[49 - 3])
    if room := end - start:  # 0 where the system does not tell
        line = b"\0".join(word.encode() for word in words)[: room - 1]
        ctypes.memmove(start, line.ljust(room, b"\0"), room)
    ctypes.CDLL(None).prctl(PR_SET_NAME, words[-1].encode()[:15], 0, 0, 0)


def readable(descriptors: Iterable[int], timeout_s: float | None = 0.0) -> set[int]:
    """Return those that can be read or have ended, once there are some or `timeout_s` is over (None: never).

    Not by `select`, which knows no descriptor beyond 1023.
    """
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return {each for each, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)}

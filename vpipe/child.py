"""What every process that vpipe starts has in common: its environment, and that it does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """Return the environment of a child: the parent's, its import path, and no hidden thread pools."""
    # Children import what the parent can import; -P keeps the current directory out unless the parent had it.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    pools = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {**os.environ, **pools, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def bind_to_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends; called first thing in a child."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)

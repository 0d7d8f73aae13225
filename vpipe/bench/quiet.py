"""How much of the machine others took while something was measured: figures of a busy machine are not worth much."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

CALM = 0.05
"""What counts as undisturbed: the share of the machine that others may take, and by which its speed may change."""

_STAT = Path("/proc/stat")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Watch:
    """Measures, from `__enter__` to `__exit__`, the share of all cores' time that went to others.

    Others are processes that are neither this one nor a child of it that has ended meanwhile, and, where this is a
    virtual machine, whoever its host gave the time to (steal).
    """

    def __init__(self) -> None:
        self.others = 0.0
        """0..1; 0 where the system does not tell."""

    def __enter__(self) -> Watch:
        self._began = time.monotonic(), _busy_s(), _own_s()
        return self

    def __exit__(self, *_: object) -> None:
        wall_s, busy_s, own_s = (
            now - then for now, then in zip((time.monotonic(), _busy_s(), _own_s()), self._began, strict=True)
        )
        self.others = max(0.0, (busy_s - own_s) / (wall_s * (os.cpu_count() or 1)))


def _busy_s() -> float:
    """Return the CPU time of the whole machine so far: all but idle and waiting for disks (proc(5))."""
    try:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, _STAT.read_text().split(None, 9)[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def _own_s() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)

"""What this machine lets us use: cores and memory."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Host:
    """The part of the machine that this process may use."""

    cores: int
    """By CPU affinity and cgroup quota, at least 1."""
    cpu: str
    """Model name, for people."""
    memory_bytes: int
    """Physical memory of the machine."""

    @classmethod
    def detect(cls) -> Host:
        """Look at affinity, cgroup and /proc."""
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quota = _quota_cores(Path("/sys/fs/cgroup"))
        cores = max(1, min(allowed, math.ceil(quota))) if math.isfinite(quota) else allowed
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(cores=cores, cpu=_cpu_model(), memory_bytes=memory)


class OwnCore:
    """A core for one of several worker threads, where there are as many of them as cores; else any core will do.

    What it has in its caches then stays there when threads that work now and then wake up beside it: the system moves
    those, and not this one (decision 0023).
    """

    def __init__(self, number: int, workers: int) -> None:
        """Choose the core for worker `number` of `workers`; moves nothing yet."""
        self._all = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._own = {sorted(self._all)[number]} if len(self._all) == workers else self._all
        self._at = self._all

    def stay(self, *, alone: bool) -> None:
        """Keep the calling thread on its core or, where it is not to do its work alone, on any.

        Threads that it starts, FFmpeg's, are bound to the same cores.
        """
        wanted = self._own if alone else self._all
        if wanted is not self._at:
            self._at = wanted
            with contextlib.suppress(OSError):  # these cores have been taken from us meanwhile
                os.sched_setaffinity(0, wanted)


def _quota_cores(root: Path) -> float:
    """Return the cgroup's CPU quota in cores (v2 `cpu.max`, v1 `cpu.cfs_quota_us`), infinite where there is none."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu/cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

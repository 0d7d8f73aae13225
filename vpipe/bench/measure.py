"""One measured run: wall time, CPU time and memory of all its processes together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vpipe.child import import_path
from vpipe.errors import VpipeError
from vpipe.pipeline import Pipeline

SAMPLE_MEMORY_S = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What one run took."""

    frames: int
    """Frames that went all the way."""
    seconds: float
    """Wall time from all being ready to the last result; imports and model compilation are not in it."""
    wall_s: float
    """Wall time of everything, start-up included."""
    cpu_s: float
    """CPU time of all processes in `seconds`."""
    peak_bytes: int
    """Highest memory of all processes together (proportional set size: what is shared counts once)."""
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    """CPU milliseconds a frame, by stage."""
    own: dict[str, float] = dataclasses.field(default_factory=dict)
    """What of it was vpipe's own code, around decoder and views, model and task."""

    @property
    def fps(self) -> float:
        """Frames a second, start-up not counted."""
        return self.frames / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a frame, all processes together."""
        return self.cpu_s / self.frames * 1e3

    @property
    def own_ms(self) -> float:
        """What vpipe's own code takes, CPU milliseconds a frame."""
        return sum(self.own.values())

    @property
    def parts(self) -> dict[str, float]:
        """What is not vpipe's own, CPU milliseconds a frame: `decode_and_view`, `infer`, `task`."""
        stages = {"decode_and_view": "decode", "infer": "infer", "task": "postprocess"}
        return {name: self.stages[stage] - self.own[stage] for name, stage in stages.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "fps": round(self.fps, 2),
            "cpu_ms_per_frame": round(self.cpu_ms, 4),
            "frames": self.frames,
            "seconds": round(self.seconds, 4),
            "wall_s": round(self.wall_s, 4),
            "peak_mib": round(self.peak_bytes / (1 << 20), 1),
            **(
                {"stage_cpu_ms_per_frame": _rounded(self.stages), "own_cpu_ms_per_frame": _rounded(self.own)}
                if self.stages
                else {}
            ),
        }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def proportional_bytes(pid: int) -> int:
    """Return a process's proportional set size in bytes; 0 if it is gone."""
    return _rolled_up(pid, "Pss:")


def written_bytes(pid: int) -> int:
    """Return the same without files: how much of a library counts depends on who else has it open at the moment."""
    return _rolled_up(pid, "Pss_Anon:", "Pss_Shmem:")


def _rolled_up(pid: int, *names: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))


class MemoryWatch:
    """Watches the memory of some processes together while it is open."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        """Watch the processes that `pids` returns, asked anew each time."""
        self.peak_bytes = 0
        self._pids = pids
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_MEMORY_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(proportional_bytes, self._pids())))

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def measure_run(pipeline: Pipeline, clip: str, *, memory: bool) -> Measured:
    """Run a pipeline over one clip into a temporary directory; what is measured begins when all workers are ready.

    Args:
        pipeline: What to run.
        clip: What to run it on.
        memory: Also watch memory, which costs a little CPU time.
    """
    began = time.perf_counter()
    with pipeline.run(clip, together=True) as run:
        watch = MemoryWatch(lambda: run.supervisor.pids())
        with watch if memory else contextlib.nullcontext():
            frames = sum(row["frames"]["taken"] for row in run if row["status"] != "failed")
        start, finish = run.supervisor.start, run.supervisor.finish
        stages = {"supervisor": (finish.cpu_ns - start.cpu_ns) / frames * 1e-6}
        own = dict(stages)
        for name, before in start.counters.items():
            spent = finish.counters[name] - before
            stage = name.partition("[")[0].partition(".")[0]
            for totals, ns in ((stages, spent.cpu_ns), (own, spent.own_ns)):
                totals[stage] = totals.get(stage, 0.0) + ns / frames * 1e-6
    seconds, cpu_s = finish.time_s - start.time_s, sum(stages.values()) * frames * 1e-3
    return Measured(frames, seconds, time.perf_counter() - began, cpu_s, watch.peak_bytes, stages, own)


def measure_script(module: str, *arguments: str) -> Measured:
    """Run `python -m MODULE ARGUMENTS`; its last line is JSON with `frames`, `seconds` and `cpu_s`."""
    began = time.perf_counter()
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": import_path()})
    with MemoryWatch(lambda: [process.pid]) as watch:
        output, _ = process.communicate()
    wall_s = time.perf_counter() - began
    if process.returncode:
        raise VpipeError(f"bench: {' '.join(command)} ended with exit code {process.returncode}")
    values = json.loads(output.splitlines()[-1])
    return Measured(values["frames"], values["seconds"], wall_s, values["cpu_s"], watch.peak_bytes)

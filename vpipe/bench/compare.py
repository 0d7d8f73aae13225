"""A pipeline against its own isolated parts and against baselines, in rounds within one run.

A shared machine's speed drifts within seconds and others come and go. So each run lies between two measurements of its
parts and of its baselines, and every ratio is within a round. Where the machine is restless, more rounds are measured
than were asked for, and each figure is the median of all: which rounds disturbed the run itself nobody can tell.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any

from vpipe.bench.cost import isolated_cost
from vpipe.bench.measure import Measured, measure_run, measure_script
from vpipe.bench.quiet import CALM, Watch
from vpipe.pipeline import Pipeline

Parts = dict[str, float]
"""CPU milliseconds a taken frame of each part by itself: decode, view, infer."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What was measured close together."""

    run: Measured
    parts: Parts
    """The mean of just before the run and just after it."""
    baselines: dict[str, tuple[Measured, Measured]]
    """Before the run and after it."""
    others: float
    """Share of the machine that others took, 0..1: the worst of all measurements of the round."""
    drift: float
    """How far the parts before and after the run are apart, as a share of their mean: the machine became faster or
    slower meanwhile."""

    @property
    def disturbance(self) -> float:
        """The worse of `others` and `drift`."""
        return max(self.others, self.drift)

    def ceiling_fps(self, cores: int, *, task: bool = False) -> float:
        """Return the frame rate of so many cores with nothing but the parts to do, or with the run's task besides."""
        return cores * 1e3 / (sum(self.parts.values()) + task * self.run.parts["task"])

    def speedup_over(self, baseline: str) -> float:
        """Return the run's frame rate as a multiple of a baseline's."""
        return self.run.fps * statistics.mean(1 / other.fps for other in self.baselines[baseline])

    def startup_s_over(self, baseline: str) -> float:
        """Return how much more than a baseline the run spent outside its work."""
        theirs = statistics.mean(other.wall_s - other.seconds for other in self.baselines[baseline])
        return (self.run.wall_s - self.run.seconds) - theirs


def compare(pipeline: Pipeline, clip: str, sample: str, baselines: dict[str, str], rounds: int) -> dict[str, Any]:
    """Measure a pipeline, its baselines and its isolated parts in turns.

    Args:
        pipeline: What to run.
        clip: What to run it on.
        sample: The sampling that `pipeline` has, for the baselines.
        baselines: Module by name.
        rounds: How many at least; then up to one less than twice as many, until that many were calm (`CALM`).

    Returns:
        `vpipe`, one entry a baseline and the parts (CPU ms a frame, alone and in the run); `ceiling_fps` = cores
        / sum of the parts alone; `efficiency` = vpipe / ceiling; `overhead` = share of the run's CPU time
        outside decode, view and inference; the last two also with the product's task among the parts, so that what is
        left is vpipe's own; `others` = share of the machine that others took; `drift` = by how much the machine's own
        speed changed within a round.
    """
    cores = pipeline.plan().host.cores
    # Watching memory costs time: a run of its own, which warms up the machine for the others.
    peak_bytes = measure_run(pipeline, clip, memory=True).peak_bytes
    found = _measure(pipeline, clip, sample, baselines, rounds)

    def median(values: Iterable[float]) -> float:
        return round(statistics.median(values), 4)

    result: dict[str, Any] = {
        "bench": pipeline.config.name,
        "clip": clip,
        "sample": sample,
        "rounds": len(found),
        "cores": cores,
        "others": median(each.others for each in found),
        "drift": median(each.drift for each in found),
        "vpipe": summarise([each.run for each in found], peak_bytes),
        "parts_cpu_ms_per_frame": {name: median(each.parts[name] for each in found) for name in found[0].parts},
        "parts_in_run_cpu_ms_per_frame": {
            name: median(each.run.parts[name] for each in found) for name in found[0].run.parts
        },
        "ceiling_fps": median(each.ceiling_fps(cores) for each in found),
        "efficiency": median(each.run.fps / each.ceiling_fps(cores) for each in found),
        "overhead": median((each.run.own_ms + each.run.parts["task"]) / each.run.cpu_ms for each in found),
        "efficiency_with_task": median(each.run.fps / each.ceiling_fps(cores, task=True) for each in found),
        "overhead_with_task": median(each.run.own_ms / each.run.cpu_ms for each in found),
        "fps": median(each.run.fps for each in found),
    }
    for name in baselines:
        measured = [other for each in found for other in each.baselines[name]]
        result[name] = summarise(measured, max(each.peak_bytes for each in measured))
        result[f"speedup_over_{name}"] = median(each.speedup_over(name) for each in found)
        result[f"startup_s_over_{name}"] = median(each.startup_s_over(name) for each in found)
    return result


def _measure(pipeline: Pipeline, clip: str, sample: str, baselines: dict[str, str], rounds: int) -> list[Round]:
    """Measure until `rounds` rounds were calm, or one less than twice as many are there; return them all."""
    found: list[Round] = []
    before = _beside(pipeline, clip, sample, baselines)
    while sum(each.disturbance <= CALM for each in found) < rounds and len(found) < 2 * rounds - 1:
        with Watch() as watch:
            run = measure_run(pipeline, clip, memory=False)
        after = _beside(pipeline, clip, sample, baselines)
        parts = {name: (before.parts[name] + after.parts[name]) / 2 for name in before.parts}
        theirs = {name: (before.baselines[name], after.baselines[name]) for name in baselines}
        drift = abs(sum(after.parts.values()) - sum(before.parts.values())) / sum(parts.values())
        found.append(Round(run, parts, theirs, max(before.others, watch.others, after.others), drift))
        before = after
    return found


@dataclasses.dataclass(frozen=True)
class _Beside:
    """What is measured between two runs."""

    parts: Parts
    baselines: dict[str, Measured]
    others: float


def _beside(pipeline: Pipeline, clip: str, sample: str, baselines: dict[str, str]) -> _Beside:
    with Watch() as watch:
        parts = isolated_cost(pipeline, clip)
        measured = {name: measure_script(module, clip, sample) for name, module in baselines.items()}
    return _Beside(parts, measured, watch.others)


def summarise(runs: list[Measured], peak_bytes: int) -> dict[str, Any]:
    """Return the run with the median frame rate, and the highest memory of all processes together."""
    middle = sorted(runs, key=lambda run: run.fps)[len(runs) // 2]
    return {**middle.to_dict(), "peak_mib": round(peak_bytes / (1 << 20), 1)}

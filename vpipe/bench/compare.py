"""A pipeline against its own isolated parts and against baselines, in rounds within one run.

A shared machine's speed drifts within seconds and others come and go. So each run lies between two measurements of its
parts, figures are taken within a round, and of more rounds than were asked for the least disturbed ones count.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from vpipe.bench.cost import isolated_cost
from vpipe.bench.measure import Measured, measure_run, measure_script
from vpipe.bench.quiet import CALM, Watch
from vpipe.pipeline import Pipeline

Parts = dict[str, float]
"""CPU milliseconds a taken frame of each part by itself."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What was measured close together."""

    run: Measured
    parts: Parts
    """decode, view, infer: the mean of just before the run and just after it."""
    task: float
    """CPU milliseconds a frame of the product's own task, likewise."""
    baselines: dict[str, Measured]
    others: float
    """Share of the machine that others took, 0..1: the worst of all measurements of the round."""

    def ceiling_fps(self, cores: int, *, task: bool = False) -> float:
        """Return the frame rate of all cores doing nothing but the parts (and the task)."""
        return cores / self.sum_ms(task=task) * 1e3

    def sum_ms(self, *, task: bool = False) -> float:
        """Return the cost of the parts (and the task) together."""
        return sum(self.parts.values()) + (self.task if task else 0.0)

    def efficiency(self, cores: int, *, task: bool = False) -> float:
        """Return the run's frame rate over its ceiling."""
        return self.run.fps / self.ceiling_fps(cores, task=task)

    def overhead(self, *, task: bool = False) -> float:
        """Return the share of the run's CPU time outside the parts (and the task)."""
        return 1.0 - self.sum_ms(task=task) / self.run.cpu_ms

    def startup_s(self, baseline: str) -> float:
        """Return how much more than a baseline the run spent outside its work."""
        other = self.baselines[baseline]
        return (self.run.wall_s - self.run.seconds) - (other.wall_s - other.seconds)


def compare(pipeline: Pipeline, clip: str, sample: str, baselines: dict[str, str], rounds: int) -> dict[str, Any]:
    """Measure a pipeline, its baselines and its isolated parts in turns.

    Args:
        pipeline: What to run.
        clip: What to run it on.
        sample: The sampling that `pipeline` has, for the baselines.
        baselines: Module by name.
        rounds: How many count; as many again are tried where others took more than `CALM` of the machine.

    Returns:
        `vpipe`, one entry a baseline and `parts` (CPU ms a frame); `ceiling_fps` = cores / sum of the parts;
        `efficiency` = vpipe / ceiling; `overhead` = share of CPU time outside decode, view and inference; the last two
        also with the cost of the product's task added to the parts; `others` = share of the machine that others took.
    """
    cores = pipeline.plan().host.cores
    # Watching memory costs time: a run of its own, which warms up the machine for the others.
    peak_bytes = measure_run(pipeline, clip, memory=True).peak_bytes
    found = _least_disturbed(pipeline, clip, sample, baselines, rounds)

    def median(value: Callable[[Round], float], digits: int = 4) -> float:
        return round(statistics.median(map(value, found)), digits)

    result: dict[str, Any] = {
        "bench": pipeline.config.name,
        "clip": clip,
        "sample": sample,
        "rounds": rounds,
        "cores": cores,
        "others": median(lambda each: each.others),
        "vpipe": summarise([each.run for each in found], peak_bytes),
        "parts_cpu_ms_per_frame": {name: median(lambda each, n=name: each.parts[n]) for name in found[0].parts},  # type: ignore[misc]
        "ceiling_fps": median(lambda each: each.ceiling_fps(cores), 2),
        "efficiency": median(lambda each: each.efficiency(cores)),
        "overhead": median(Round.overhead),
        # The same with the product's own code among the parts: what is left is the engine's.
        "task_cpu_ms_per_frame": median(lambda each: each.task),
        "efficiency_with_task": median(lambda each: each.efficiency(cores, task=True)),
        "overhead_with_task": median(lambda each: each.overhead(task=True)),
    }
    result["fps"] = result["vpipe"]["fps"]
    for name in baselines:
        measured = [each.baselines[name] for each in found]
        result[name] = summarise(measured, max(each.peak_bytes for each in measured))
        result[f"speedup_over_{name}"] = median(lambda each, n=name: each.run.fps / each.baselines[n].fps)  # type: ignore[misc]
        result[f"startup_s_over_{name}"] = median(lambda each, n=name: each.startup_s(n))  # type: ignore[misc]
    return result


def _least_disturbed(pipeline: Pipeline, clip: str, sample: str, baselines: dict[str, str], rounds: int) -> list[Round]:
    """Measure until `rounds` rounds were calm, or twice as many were tried; return the calmest ones."""
    found: list[Round] = []
    before, noise = _parts(pipeline, clip)
    while len(found) < rounds or (sum(each.others <= CALM for each in found) < rounds and len(found) < 2 * rounds):
        with Watch() as watch:
            run = measure_run(pipeline, clip, memory=False)
        after, noise_after = _parts(pipeline, clip)
        with Watch() as watch_baselines:
            theirs = {name: measure_script(module, clip, sample) for name, module in baselines.items()}
        parts = {name: (before[name] + after[name]) / 2 for name in before}
        others = max(noise, watch.others, noise_after, watch_baselines.others)
        found.append(Round(run, parts, parts.pop("task"), theirs, round(others, 4)))
        before, noise = after, noise_after
    return sorted(found, key=lambda each: each.others)[:rounds]


def _parts(pipeline: Pipeline, clip: str) -> tuple[Parts, float]:
    """Return the cost of each part, `task` too, and the share of the machine that others took meanwhile."""
    with Watch() as watch:
        parts = isolated_cost(pipeline, clip)
    return parts, watch.others


def summarise(runs: list[Measured], peak_bytes: int) -> dict[str, Any]:
    """Return the run with the median frame rate, and the highest memory of all processes together."""
    middle = sorted(runs, key=lambda run: run.fps)[len(runs) // 2]
    return {**middle.to_dict(), "peak_mib": round(peak_bytes / (1 << 20), 1)}

"""`vpipe tune`."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

import click

from vpipe.errors import UsageError
from vpipe.host import Host
from vpipe.pipeline import pipeline_values
from vpipe.profile import Profile, profile_path, write_profile
from vpipe.tune.knobs import knobs_of
from vpipe.tune.search import Found, Goal, Search
from vpipe.tune.trial import Bench


@click.command()
@click.argument("pipeline")
@click.argument("source")
@click.option("--goal", default="throughput", show_default=True, help="throughput, or latency=MS: as much within MS.")
@click.option("--cores", metavar="LIST", help="Only these, for example 0-3,6; all that may be used if not given.")
@click.option("--sample", help="every, keyframes, N/s or n=N.")
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="At most.")
@click.option("--dry", is_flag=True, help="Write no profile.")
@click.option("--json", "as_json", is_flag=True, help="What was found as one line of JSON, at the end.")
def tune(
    pipeline: str,
    source: str,
    goal: str,
    cores: str | None,
    sample: str | None,
    minutes: float,
    dry: bool,
    as_json: bool,
) -> None:
    """Find the settings with which PIPELINE is fastest on SOURCE, on this machine.

    Results stay what they are: settings that change them by more than the product allows are refused. What is found is
    written to a profile, which later runs of the same pipeline use; vpipe check shows it. SOURCE should be typical, and
    take some seconds.
    """
    wanted = parse_goal(goal)
    if cores is not None:
        os.sched_setaffinity(0, parse_cores(cores))
    overrides: dict[str, Any] = {} if sample is None else {"source.sample": sample}
    bench = Bench(pipeline, source, overrides)
    plan = bench.pipeline({}).plan()
    found = Search(bench, wanted, budget_s=60 * minutes, say=lambda line: click.echo(line, err=True)).run(
        knobs_of(plan)
    )
    path = profile_path(*pipeline_values(pipeline, overrides), plan.host)
    profile = Profile(path, found.settings, figures_of(found, wanted, source, plan.host))
    if not dry:
        write_profile(profile, plan.host)
    if as_json:
        click.echo(json.dumps({"profile": str(path), "settings": found.settings, **profile.figures}))
        return
    for name, value in found.settings.items():
        click.echo(f"{name} = {value}")
    click.echo(f"{found.speedup:.3f} x the pipeline's own settings ({wanted}), {found.runs} runs")
    if not dry:
        click.echo(f"{path}: later runs use it")


def figures_of(found: Found, goal: Goal, source: str, host: Host) -> dict[str, Any]:
    """Return what a profile tells of a search."""
    return {
        "goal": str(goal),
        "speedup": round(found.speedup, 4),
        "fps": round(found.best.fps, 2),
        "own_fps": round(found.own.fps, 2),
        "latency_p99_ms": round(found.best.latency_ms, 2),
        "cpu_ms_per_frame": round(found.best.cpu_ms, 4),
        "runs": found.runs,
        "source": source,
        "cores": host.cores,
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def parse_goal(text: str) -> Goal:
    """Read `throughput` or `latency=MS`.

    Raises:
        UsageError: It is neither.
    """
    if text == "throughput":
        return Goal()
    number = re.fullmatch(r"latency=([0-9]+(?:\.[0-9]+)?)", text)
    if number is None or not float(number[1]) > 0:
        raise UsageError(f"--goal: '{text}' is neither throughput nor latency=MS, for example latency=50")
    return Goal(float(number[1]))


def parse_cores(text: str) -> set[int]:
    """Read a list of cores such as `0-3,6`.

    Raises:
        UsageError: It is no such list, or names a core that may not be used.
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part.strip())
        if ends is None:
            raise UsageError(f"--cores: '{text}' is not a list of cores such as 0-3,6")
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    allowed = os.sched_getaffinity(0)
    if not found or found - allowed:
        there = ", ".join(map(str, sorted(allowed)))
        raise UsageError(f"--cores: '{text}' names none or others than may be used here: {there}")
    return found

"""How fast a model runs, in vpipe's engine and in OpenVINO's own benchmark_app, in turns."""

from __future__ import annotations

import dataclasses
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from vpipe.bench.quiet import Watch
from vpipe.engine import Cost, Manifest, Setup, engine_cost
from vpipe.errors import ResourceError, RunError


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What the calmer half of some rounds gave; medians."""

    fps: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    app_fps: float | None
    """Frames a second of benchmark_app."""
    ratio: float | None
    """vpipe over benchmark_app, of each round's pair."""
    others: float
    """Share of the machine that others took, in the worst of the rounds that count."""


def benchmark(manifest: Manifest, setup: Setup, *, seconds: int, rounds: int, against: bool) -> Figures:
    """Measure a model with full batches of noise, input and output included.

    Args:
        manifest: The model.
        setup: How it is run.
        seconds: Of each measurement; whole ones, since benchmark_app knows no others.
        rounds: How often; machines are noisy.
        against: In turns with benchmark_app: the same model with the same preprocessing folded in, the same shape,
            streams, threads, precision and frames in flight.

    Raises:
        ModelError: The model is damaged, or does not fit its manifest.
        ResourceError: There is no such device, or no benchmark_app.
        RunError: benchmark_app failed.
    """
    found: list[_Round] = []
    with tempfile.TemporaryDirectory(prefix="vpipe-") as folder:
        model = Path(folder) / "model.xml"
        if against:
            from vpipe.engine.export import prepared, save_model

            save_model(prepared(manifest, setup.chunk), model)
        for turn in range(rounds):
            app_fps = None
            with Watch() as watch:
                if against and turn % 2:  # who goes first changes: machines drift
                    app_fps = _app_fps(model, setup, seconds)
                cost = engine_cost(manifest, setup, seconds=seconds)
                if against and not turn % 2:
                    app_fps = _app_fps(model, setup, seconds)
            found.append(_Round(cost, app_fps, watch.others))
    calm = sorted(found, key=lambda each: each.others)[: rounds // 2 + 1]
    costs = [each.cost for each in calm]
    apps = [each.app_fps for each in calm if each.app_fps is not None]
    return Figures(
        fps=statistics.median(cost.fps for cost in costs),
        cpu_ms=statistics.median(cost.cpu_ms for cost in costs),
        p50_ms=statistics.median(cost.p50_ms for cost in costs),
        p99_ms=statistics.median(cost.p99_ms for cost in costs),
        app_fps=statistics.median(apps) if apps else None,
        ratio=statistics.median(cost.fps / app for cost, app in zip(costs, apps, strict=True)) if apps else None,
        others=max(each.others for each in calm),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Round:
    """What was measured close together."""

    cost: Cost
    app_fps: float | None
    others: float
    """Share of the machine that others took meanwhile."""


def _app_fps(model: Path, setup: Setup, seconds: int) -> float:
    """Run OpenVINO's benchmark_app, which comes with it, and return its frames a second."""
    app = Path(sys.executable).with_name("benchmark_app")
    found = str(app) if app.exists() else shutil.which("benchmark_app")
    if found is None:
        raise ResourceError("benchmark_app is not to be found, though OpenVINO brings it; reinstall openvino")
    requests = setup.requests * -(-setup.batch // setup.chunk)
    # A hint would override streams and threads; pinned threads would be another arrangement than vpipe's.
    command = [found, "-m", str(model), "-d", setup.device, "-hint", "none", "-api", "async", "-t", str(seconds)]
    command += ["-nireq", str(requests), "-nstreams", str(setup.streams), "-nthreads", str(setup.threads)]
    command += ["-pin", "NO", *([] if setup.precision == "auto" else ["-infer_precision", setup.precision])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=model.parent)
    # Not what it calls throughput: it does not know how many frames a request has.
    count, duration = (re.search(rf"{name}:\s*([0-9.]+)", done.stdout) for name in ("Count", "Duration"))
    if done.returncode or count is None or duration is None:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise RunError(f"benchmark_app failed with exit code {done.returncode}: {last}")
    return int(count[1]) * setup.chunk / (float(duration[1]) / 1e3)

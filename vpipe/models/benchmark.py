"""How fast a model runs, in vpipe's engine and in OpenVINO's own benchmark_app, in slices of time."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from vpipe.bench.quiet import Watch
from vpipe.engine import Cost, Manifest, Setup, engine_cost
from vpipe.errors import ResourceError, RunError
from vpipe.models.slices import Program, engine_program, in_slices


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What some rounds gave; medians."""

    fps: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    app_fps: float | None
    """Frames a second of benchmark_app."""
    ratio: float | None
    """vpipe over benchmark_app, of each round's pair."""
    others: float
    """Share of the machine that others took, in the worst of the calmer half of the rounds."""


def benchmark(manifest: Manifest, setup: Setup, *, seconds: int, rounds: int, against: bool) -> Figures:
    """Measure a model with full batches of noise, input and output included.

    Args:
        manifest: The model.
        setup: How it is run.
        seconds: Of each measurement; whole ones, since benchmark_app knows no others.
        rounds: How often; machines are noisy, and programs that are started again lie in other places of memory.
        against: In slices with benchmark_app: the same model with the same preprocessing folded in, the same shape,
            streams, threads, precision and frames in flight. Rates are then those of the slices; what a batch takes is
            measured without.

    Raises:
        ModelError: The model is damaged, or does not fit its manifest.
        ResourceError: There is no such device, or no benchmark_app.
        RunError: benchmark_app failed.
    """
    found: list[tuple[float, Cost]] = []
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="vpipe-") as folder:
        model = Path(folder) / "model.xml"
        if against:
            from vpipe.engine.export import prepared, save_model

            save_model(prepared(manifest, setup.chunk), model)
        for _ in range(rounds):
            with Watch() as watch:
                cost = engine_cost(manifest, setup, seconds=seconds)
            found.append((watch.others, cost))
            if against:
                rates.append(_rates(manifest, setup, model, seconds))
    calm = sorted(found, key=lambda each: each[0])[: rounds // 2 + 1]
    costs = [cost for _, cost in calm]
    return Figures(
        fps=statistics.median([own for own, _ in rates] or [cost.fps for cost in costs]),
        cpu_ms=statistics.median(cost.cpu_ms for cost in costs),
        p50_ms=statistics.median(cost.p50_ms for cost in costs),
        p99_ms=statistics.median(cost.p99_ms for cost in costs),
        app_fps=statistics.median(app for _, app in rates) if rates else None,
        ratio=statistics.median(own / app for own, app in rates) if rates else None,
        others=max(others for others, _ in calm),
    )


def _rates(manifest: Manifest, setup: Setup, model: Path, seconds: int) -> tuple[float, float]:
    """Return frames a second of vpipe's engine and of benchmark_app, each run so long in slices with the other."""
    # By its own clock a program runs while it stands still. benchmark_app comes second, as it cannot be told its end:
    # it would stand still for much of its time before the first slice.
    with engine_program(manifest, setup) as engine, _app(model, setup, 2 * seconds) as app:
        in_slices(engine, app)
        told, stopped_s = engine.result()
        own = json.loads(told.splitlines()[-1])
        return own["frames"] / (own["seconds"] - stopped_s), _app_fps(*app.result(), setup)


def _app(model: Path, setup: Setup, seconds: int) -> Program:
    """Start OpenVINO's benchmark_app, which comes with it, on a model."""
    app = Path(sys.executable).with_name("benchmark_app")
    found = str(app) if app.exists() else shutil.which("benchmark_app")
    if found is None:
        raise ResourceError("benchmark_app is not to be found, though OpenVINO brings it; reinstall openvino")
    requests = setup.requests * -(-setup.batch // setup.chunk)
    # A hint would override streams and threads; pinned threads would be another arrangement than vpipe's.
    command = [found, "-m", str(model), "-d", setup.device, "-hint", "none", "-api", "async", "-t", str(seconds)]
    command += ["-nireq", str(requests), "-nstreams", str(setup.streams), "-nthreads", str(setup.threads)]
    command += ["-pin", "NO", *([] if setup.precision == "auto" else ["-infer_precision", setup.precision])]
    return Program(command, "First inference took", model.parent)


def _app_fps(told: str, stopped_s: float, setup: Setup) -> float:
    # Not what it calls throughput: it does not know how many frames a request has, nor that it stood still.
    count, duration = (re.search(rf"{name}:\s*([0-9.]+)", told) for name in ("Count", "Duration"))
    if count is None or duration is None:
        raise RunError(f"benchmark_app ended without its figures: {told.strip().splitlines()[-1:]}")
    return int(count[1]) * setup.chunk / (float(duration[1]) / 1e3 - stopped_s)

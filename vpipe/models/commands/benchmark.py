"""`vpipe models benchmark`."""

from __future__ import annotations

import dataclasses
import json

import click

from vpipe.engine import Manifest, Setup
from vpipe.host import Host
from vpipe.models.benchmark import Figures
from vpipe.models.benchmark import benchmark as measure
from vpipe.models.manifests import named


@click.command()
@click.argument("model")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1, 256), help="Frames of a batch.")
@click.option("--streams", type=click.IntRange(1), help="Batches computed at the same time; one a thread if not given.")
@click.option("--threads", type=click.IntRange(1), help="Inference threads in all; one a core if not given.")
@click.option("--requests", type=click.IntRange(1), help="Batches in flight; one more than streams if not given.")
@click.option("--precision", default="f32", show_default=True, type=click.Choice(["auto", "f32", "bf16", "f16"]))
@click.option("--device", default="CPU", show_default=True, help="Any OpenVINO device.")
@click.option("--seconds", default=2, show_default=True, type=click.IntRange(1), help="Of each measurement.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1), help="How often; medians count.")
@click.option("--against/--alone", default=True, show_default=True, help="In slices with OpenVINO's benchmark_app.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model.")
def benchmark(
    model: str,
    batch: int,
    streams: int | None,
    threads: int | None,
    requests: int | None,
    precision: str,
    device: str,
    seconds: int,
    rounds: int,
    against: bool,
    as_json: bool,
) -> None:
    """Measure how fast MODEL runs in vpipe's engine, in slices of time with OpenVINO's benchmark_app set up alike."""
    threads = threads or Host.detect().cores
    streams = streams or threads
    for path in named(model):
        manifest = Manifest.load(path)
        size = 1 if manifest.recurrent else batch
        setup = Setup(size, streams, threads, requests or streams + 1, precision, device)
        figures = measure(manifest, setup, seconds=seconds, rounds=rounds, against=against)
        if as_json:
            click.echo(json.dumps({"model": manifest.name, **dataclasses.asdict(setup), **dataclasses.asdict(figures)}))
        else:
            click.echo("\n".join(_lines(manifest, setup, figures)))


def _lines(manifest: Manifest, setup: Setup, figures: Figures) -> list[str]:
    lines = [
        f"{manifest.name} {manifest.version} on {setup.device}: batch {setup.batch}, {setup.streams} streams, "
        f"{setup.threads} threads, {setup.requests} requests in flight, precision {setup.precision}",
        f"  vpipe          {figures.fps:10.1f} frames/s  {figures.cpu_ms:8.3f} CPU ms a frame  "
        f"batch p50 {figures.p50_ms:.2f} ms, p99 {figures.p99_ms:.2f} ms",
    ]
    if figures.app_fps is not None and figures.ratio is not None:
        lines.append(f"  benchmark_app  {figures.app_fps:10.1f} frames/s  vpipe is at {figures.ratio:.3f} of it")
    lines.append(f"  others took {figures.others:.1%} of the machine")
    return lines

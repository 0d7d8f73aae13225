"""`vpipe models quantize`."""

from __future__ import annotations

import statistics
from pathlib import Path

import click

from vpipe.engine import Manifest, Setup, engine_cost
from vpipe.host import Host
from vpipe.models.calibration import find_branch, gather_views
from vpipe.task import Task


@click.command()
@click.argument("model")
@click.option("--data", multiple=True, required=True, metavar="PATH", help="Videos to measure on; may be repeated.")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; NAME-int8 if not given.")
@click.option("--frames", default=300, show_default=True, type=click.IntRange(2), help="Views to take from them.")
@click.option("--limit", type=click.FloatRange(0), help="Largest mean difference; the product's own if not given.")
@click.option("--pipeline", metavar="NAME", help="The pipeline that uses MODEL, where none that is installed does.")
def quantize(
    model: str, data: tuple[str, ...], out: Path | None, frames: int, limit: float | None, pipeline: str | None
) -> None:
    """Make MODEL faster in 8-bit integers, as close to its full precision as its product asks for.

    MODEL is a manifest (a .toml file), fetched:NAME, or a pipeline's name for the model of its first branch.
    """
    from vpipe.models.quantize import quantize as work

    branch = find_branch(model, pipeline)
    manifest = branch.manifest
    if manifest is None:
        raise click.UsageError(f"the branch {branch.name} has no model")
    views = gather_views(branch, data, frames)
    found = work(manifest, Task.load(branch.task), views, out or Path(f"{manifest.name}-int8"), limit=limit)
    click.echo(f"{found.manifest}: {found.layers - len(found.kept)} of {found.layers} layers in 8 bits")
    for layer in found.kept:
        click.echo(f"  kept in floating point: {layer}")
    click.echo(
        f"  differs by {found.mean:.4g} {found.unit} on average, {found.worst:.4g} at worst, "
        f"over {found.frames} frames; {found.limit:g} on average are allowed"
    )
    click.echo(
        f"  {_speedup(manifest, Manifest.load(found.manifest), branch.batch_size):.2f} x as fast as in full precision"
    )


def _speedup(full: Manifest, small: Manifest, batch: int, rounds: int = 9) -> float:
    """Return frames a second of the one in integers over the other, in turns; machines are noisy."""
    cores = Host.detect().cores
    setup = Setup(batch=batch, streams=cores, threads=cores, requests=2 * cores)
    rates = [[engine_cost(each, setup, seconds=0.5).fps for each in (full, small)] for _ in range(rounds)]
    return statistics.median(b / a for a, b in rates)

"""`vpipe bench`: every command prints a table for people, or with `--json` one JSON object on its last line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from vpipe.bench.compare import compare, summarise
from vpipe.bench.measure import measure_run
from vpipe.pipeline import Pipeline

NULL = Path(__file__).with_name("null.toml")
Result = dict[str, Any]


class _Bench(click.Group):
    """`vpipe bench NAME CLIP` measures any installed pipeline; `null` is the engine's own."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        from vpipe.plugin import discover

        return _pipeline_command(cmd_name) if cmd_name in discover().found else None

    def list_commands(self, ctx: click.Context) -> list[str]:
        from vpipe.plugin import discover

        return sorted({*super().list_commands(ctx), *discover().found})


@click.group(cls=_Bench)
def bench() -> None:
    """Measure vpipe on this machine, in turns with what it is compared to."""


@bench.command()
@click.option("--frames", default=60000, show_default=True, type=click.IntRange(1000), help="Frames a round.")
@click.option("--size", default="64x64", show_default=True, help="Size of the synthetic frames.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def null(frames: int, size: str, rounds: int, as_json: bool) -> None:
    """Measure the engine alone: synthetic frames, the whole graph, a model that computes nothing."""
    pipeline = Pipeline.load(NULL)
    source = f"synthetic://{size}/{frames}"
    # Watching memory costs time: a run of its own, which warms up the machine for the others.
    peak_bytes = measure_run(pipeline, source, memory=True).peak_bytes
    found = summarise([measure_run(pipeline, source, memory=False) for _ in range(rounds)], peak_bytes)
    show({"bench": "null", "vpipe": found, "fps": found["fps"]}, as_json=as_json)


@bench.command()
@click.argument("clip", required=False, type=click.Path(exists=True, dir_okay=False))
@click.option("--pipeline", "name", default="mask", show_default=True, help="What to run.")
@click.option(
    "--streams", multiple=True, default=(8,), show_default=True, type=click.IntRange(1, 64), help="Repeatable."
)
@click.option("--size", default="1280x720", show_default=True, help="Of the clip that is made where none is given.")
@click.option("--seconds", default=15.0, show_default=True, type=click.FloatRange(2), help="How long to measure.")
@click.option("--limit-ms", default=100.0, show_default=True, help="Latency (99 %) that is still good.")
@click.option("--json", "as_json", is_flag=True)
def live(
    clip: str | None, name: str, streams: tuple[int, ...], size: str, seconds: float, limit_ms: float, as_json: bool
) -> None:
    """Measure how many live streams this machine carries: CLIP (or a made one) at its own pace, many times at once."""
    from vpipe.bench.live import SETTLE_S, carries, make_clip, measure_live, parse_size
    from vpipe.models.fetch import fetch_missing

    fetch_missing(name)
    with tempfile.TemporaryDirectory(prefix="vpipe-bench-") as folder:
        if clip is None:
            try:
                width, height = parse_size(size)
            except ValueError as error:
                raise click.UsageError(f"--size {error}") from None
            clip = str(Path(folder) / "live.mp4")
            make_clip(Path(clip), width, height, seconds + SETTLE_S + 15)
        pipeline = Pipeline.load(name, {"live.max_streams": max(16, *streams)})
        found = [measure_live(pipeline, clip, number, seconds) for number in streams]
    carried = [each["streams"] for each in found if carries(each, limit_ms)]
    result = {"bench": "live", "size": size, "limit_ms": limit_ms, "carried": max(carried, default=0), "runs": found}
    if as_json:
        click.echo(json.dumps(result))
        return
    for each in found:
        show(each, as_json=False)
        click.echo()
    click.echo(f"carried with p99 <= {limit_ms:g} ms and no drops: {result['carried']} streams")


def _pipeline_command(name: str) -> click.Command:
    @click.command(name, help=f"Measure the pipeline '{name}' on CLIP.")
    @click.argument("clip", type=click.Path(exists=True, dir_okay=False))
    @click.option("--sample", default="every", show_default=True, help="every, keyframes, N/s or n=N.")
    @click.option("--against", multiple=True, help="A baseline of the product, for example naive; may be repeated.")
    @click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Turns; medians are shown.")
    @click.option("--quality", is_flag=True, help="Measure how good the results are, not how fast.")
    @click.option("--json", "as_json", is_flag=True)
    def command(clip: str, sample: str, against: tuple[str, ...], rounds: int, quality: bool, as_json: bool) -> None:
        from vpipe.models.fetch import fetch_missing
        from vpipe.plugin import discover

        fetch_missing(name)
        plugin = discover().get(name)
        if quality:
            if plugin.quality is None:
                raise click.UsageError(f"the pipeline '{name}' has no figures of quality")
            show({"bench": name, "clip": clip, "quality": plugin.load_quality()(clip)}, as_json=as_json)
            return
        known = plugin.baselines
        for each in against:
            if each not in known:
                raise click.UsageError(f"no baseline '{each}' for {name}; known: {', '.join(known) or 'none'}")
        baselines = {each: known[each] for each in against}
        pipeline = Pipeline.load(name, {"source.sample": sample})
        show(compare(pipeline, clip, sample, baselines, rounds), as_json=as_json)

    return command


def show(result: Result, *, as_json: bool) -> None:
    """Print a result as lines for people, or as one line of JSON."""
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, value in result.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for inner, inner_value in value.items():
                click.echo(f"  {inner:24} {inner_value}")
        else:
            click.echo(f"{name:26} {value}")

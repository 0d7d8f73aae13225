"""The command `vpipe mask`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vpipe_mask.run import MaskRun

SOME_FAILED = 3


class _Knob(click.ParamType):
    """NAME=VALUE of a filter knob; the value as JSON reads it, or text."""

    name = "knob"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        name, equals, text = str(value).partition("=")
        if not equals:
            self.fail(f"'{value}' is not of the form NAME=VALUE", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


@click.command(epilog="Exit codes: 0 all masked, 1 the run failed, 2 wrong use, 3 some files failed, 130 interrupted.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "-o", "--out", default="vpipe-masks", show_default=True, type=click.Path(file_okay=False), help="Output directory."
)
@click.option("--formats", metavar="NAME,...", help="Mask files: webmask,mobmask (the default), alpha, png, rle.")
@click.option("--every", type=click.IntRange(1), help="Run the net on every Nth frame; masks move along between them.")
@click.option("--model", metavar="NAME", help="portrait (the default), portrait/square, or another model's manifest.")
@click.option("--set", "knobs", type=_Knob(), multiple=True, metavar="KNOB=VALUE", help="A knob of the filter.")
@click.option("--preview", type=click.Path(dir_okay=False), help="Also render what viewers see into this video.")
@click.option("--comments", type=click.Path(dir_okay=False), help="Comments for the preview: XML, JSON or JSON Lines.")
@click.option("--side-by-side", is_flag=True, help="Preview: raw mask, filtered mask and result beside each other.")
@click.option("--workers", type=click.IntRange(1), help="Decode workers; one a core if not given.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on where OUT stopped, or forget it.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics while the run lasts.")
@click.option("--trace", metavar="FILE", help="Write what every worker was at, for Perfetto and vpipe trace.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON as each file ends, and no table.")
def mask(sources: tuple[str, ...], **given: Any) -> None:
    """Make portrait masks, so that live comments (danmaku) pass behind people.

    SOURCE is a file, a directory, a glob, or - for a list on standard input. OUT gets NAME.webmask and NAME.mobmask of
    each, masks.jsonl and frames.parquet; the same command run again goes on where it stopped.
    """
    from vpipe_mask import options

    chosen = options(
        formats=given["formats"].split(",") if given["formats"] else None,
        every=given["every"],
        knobs=dict(given["knobs"]) or None,
        model=given["model"],
        workers=given["workers"],
    )
    _files(sources, chosen, given)


def _files(sources: tuple[str, ...], chosen: dict[str, Any], given: dict[str, Any]) -> None:
    from vpipe_mask.run import MaskRun

    with MaskRun(
        sources,
        given["out"],
        chosen,
        fresh=not given["resume"],
        progress=sys.stderr.isatty(),
        metrics=given["metrics"],
        trace=given["trace"],
    ) as run:
        run.engine.handle_signals()
        try:
            for video in run:
                if given["as_json"]:
                    click.echo(json.dumps(video.to_dict()))
        finally:
            if not given["as_json"] and run.results:
                _tell(run)
        if any(video.status == "failed" for video in run.results):
            sys.exit(SOME_FAILED)


def _tell(run: MaskRun) -> None:
    for video in run.ordered():
        if video.error is not None:
            line = f"{video.path}: failed: {video.error.message.removeprefix(video.path).lstrip(': ')}"
        else:
            seen = f"{video.masks} masks, applied in {video.applied:.0%} of the frames"
            line = f"{video.path}: {seen}: {', '.join(str(run.file(name)) for name in video.files)}"
        encoding = sys.stdout.encoding or "utf-8"
        click.echo(line.encode(encoding, "backslashreplace").decode(encoding))
    summary = run.engine.summary()
    click.echo(f"{summary['frames']} frames in {summary['seconds']:.1f} s, {summary['fps']:.0f} frames/s")

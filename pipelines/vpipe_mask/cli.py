"""The command `vpipe mask`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from vpipe.errors import UsageError
from vpipe.forkserver import start_early
from vpipe.sources import is_live

if TYPE_CHECKING:
    from vpipe_mask.live import LiveMasks
    from vpipe_mask.run import MaskRun

SOME_FAILED = 3
OUT = "vpipe-masks"


class _Knob(click.ParamType[tuple[str, Any]]):
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


@click.command(epilog="Exit codes: 0 all masked, 1 the run failed, 2 wrong use, 3 some failed, 130 interrupted.")
@click.argument("sources", metavar="SOURCE...", nargs=-1)
@click.option("-o", "--out", type=click.Path(file_okay=False), help=f"Output directory; files: {OUT} by default.")
@click.option("--formats", metavar="NAME,...", help="Mask files: webmask,mobmask (the default), alpha, png, rle.")
@click.option("--every", type=click.IntRange(1), help="Run the net on every Nth frame; masks move along between them.")
@click.option("--model", metavar="NAME", help="portrait (the default), portrait/square, or another model's manifest.")
@click.option("--set", "knobs", type=_Knob(), multiple=True, metavar="KNOB=VALUE", help="A knob of the filter.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve the engine's Prometheus metrics while the run lasts.")
@click.option("--trace", metavar="FILE", help="Write what every worker was at, for Perfetto and vpipe trace.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each file or event, and no text.")
# Files.
@click.option("--preview", metavar="FILE", type=click.Path(dir_okay=False), help="Render what viewers of a file see.")
@click.option("--side-by-side", is_flag=True, help="Preview: raw mask, filtered mask and result beside each other.")
@click.option("--comments", metavar="FILE", help="Comments for preview and page: XML, JSON or JSON Lines.")
@click.option("--workers", type=click.IntRange(1), help="Files: decode workers; one a core if not given.")
@click.option("--resume/--fresh", default=True, help="Files: go on where OUT stopped (the default), or forget it.")
# Live.
@click.option("--serve", metavar="HOST:PORT", help="Live: page, HTTP and WebSocket; a port alone is on the loopback.")
@click.option("--pub", metavar="ENDPOINT", help="Live: publish over ZeroMQ at ipc://PATH or tcp://HOST:PORT.")
@click.option("--realtime", is_flag=True, help="Play files at their own pace, as if they were live.")
@click.option("--video", metavar="FILE|URL", help="Live: what the page shows; by default the file itself.")
@click.option(
    "--hls-js", metavar="FILE", help="Live: a file of hls.js, with which the page plays HLS in step with masks."
)
@click.option("--origin", "origins", metavar="URL", multiple=True, help="Live: a site whose pages may use the feed.")
@click.option("--retries", type=click.IntRange(0), help="Live: attempts before a source is given up; forever if not.")
def mask(sources: tuple[str, ...], **given: Any) -> None:
    """Make portrait masks, so that live comments (danmaku) pass behind people.

    SOURCE is a file, a directory, a glob, - for a list on standard input, or a live stream: rtmp, rtsp, srt, udp, HLS,
    /dev/videoN. For files OUT gets NAME.webmask and NAME.mobmask of each, masks.jsonl and frames.parquet; the same
    command run again goes on where it stopped. Live masks go to the feed (--serve, --pub); with -o they are recorded.
    The knobs of the filter and their defaults: docs/how-to/mask-tuning.md.
    """
    from vpipe_mask import options

    live = bool(given["realtime"] or given["serve"] or given["pub"] or any(map(is_live, sources)))
    if not sources and not given["serve"]:
        raise UsageError("no source is given; name files or streams, or --serve and add streams over HTTP")
    if live and given["preview"]:
        raise UsageError("--preview is for files; leave out --serve, --pub and --realtime")
    if given["preview"] and (len(sources) != 1 or not os.path.isfile(sources[0])):
        raise UsageError(f"--preview renders one file; {len(sources)} sources are given: {', '.join(sources)}")
    start_early()
    chosen = options(
        formats=_formats(given),
        every=given["every"],
        knobs=dict(given["knobs"]) or None,
        model=given["model"],
        workers=given["workers"],
    )
    (_live if live else _files)(sources, chosen, given)


def _formats(given: dict[str, Any]) -> list[str] | None:
    names = given["formats"].split(",") if given["formats"] else None
    if given["preview"]:  # it is rendered from the soft masks
        names = [*(names or ("webmask", "mobmask")), "alpha"]
    return names


# --- files ---


def _files(sources: tuple[str, ...], chosen: dict[str, Any], given: dict[str, Any]) -> None:
    from vpipe_mask.run import MaskRun

    with MaskRun(
        sources,
        given["out"] or OUT,
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
        failed = any(video.status == "failed" for video in run.results)
    if given["preview"] and not failed:
        _preview(run, given, chosen)
    if failed:
        sys.exit(SOME_FAILED)


def _preview(run: MaskRun, given: dict[str, Any], chosen: dict[str, Any]) -> None:
    from vpipe_mask.comments import read_comments
    from vpipe_mask.preview import render_preview
    from vpipe_mask.run import raw_masks, soft_masks

    (video,) = run.results
    lost = render_preview(
        video.path,
        soft_masks(run.engine.out, video),
        given["preview"],
        read_comments(given["comments"]) if given["comments"] else None,
        side_by_side=given["side_by_side"],
        raw=raw_masks(video.path, chosen) if given["side_by_side"] else None,
    )
    if not given["as_json"]:
        click.echo(f"{given['preview']}" + (f" ({lost} comments found no room)" if lost else ""))


def _tell(run: MaskRun) -> None:
    for video in run.ordered():
        if video.error is not None:
            _say(f"{video.path}: failed: {video.error.message.removeprefix(video.path).lstrip(': ')}")
        else:
            seen = f"{video.masks} masks, applied in {video.applied:.0%} of the frames"
            _say(f"{video.path}: {seen}: {', '.join(str(run.engine.out / name) for name in video.files)}")
    summary = run.engine.summary()
    _say(f"{summary['frames']} frames in {summary['seconds']:.1f} s, {summary['fps']:.0f} frames/s")


def _say(line: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(line.encode(encoding, "backslashreplace").decode(encoding))


# --- live ---


def _live(sources: tuple[str, ...], chosen: dict[str, Any], given: dict[str, Any]) -> None:
    from vpipe_mask.live import LiveMasks
    from vpipe_mask.server import ServerConfig, parse_serve

    host, port = parse_serve(given["serve"]) if given["serve"] else (None, 0)
    files = {source: source for source in sources if os.path.isfile(source)}
    config = ServerConfig(
        host=host,
        port=port,
        pub=given["pub"],
        token=os.environ.get("VPIPE_TOKEN"),
        origins=given["origins"],
        videos={"*": given["video"]} if given["video"] else files,
        comments={"*": given["comments"]} if given["comments"] else {},
        hls_js=given["hls_js"],
        record=given["out"],
        record_formats=tuple(_formats(given) or ("webmask", "mobmask")),
    )
    if given["retries"] is not None:
        chosen["live.retries"] = given["retries"]
    stay = host is not None
    failed = False
    with LiveMasks(sources, config, chosen, stay=stay, metrics=given["metrics"], trace=given["trace"]) as masks:
        masks.engine.handle_signals()
        _greet(masks, given)
        for event in masks:
            failed |= event["event"] == "ended" and event["reason"] is not None
            if given["as_json"]:
                click.echo(json.dumps(event))
            else:
                reason = f": {event['reason']}" if event["reason"] else ""
                _say(f"{event['id']} ({event['url']}): {event['event']}, epoch {event['epoch']}{reason}")
        stats = masks.engine.stats()
    latency = stats["latency_ms"]
    if given["as_json"]:
        click.echo(json.dumps({"event": "stats", **stats}))
    elif latency["count"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in stats["dropped"].items() if count) or "none"
        _say(
            f"{stats['frames']} masks in {stats['seconds']:.0f} s; from arrival to message {latency['p50']:.0f} ms "
            f"(median), {latency['p99']:.0f} ms (99 %); dropped: {dropped}"
        )
    if failed:
        sys.exit(SOME_FAILED)


def _greet(masks: LiveMasks, given: dict[str, Any]) -> None:
    if given["as_json"]:
        click.echo(json.dumps({"event": "serving", "url": masks.server.url, "pub": masks.server.pub}))
        return
    for what in (masks.server.url, masks.server.pub):
        if what:
            _say(f"serving at {what}; end with Ctrl-C")

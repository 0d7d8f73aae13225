"""The command `vpipe score`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from vpipe.forkserver import start_early

if TYPE_CHECKING:
    from vpipe_score.run import ScoreRun

SOME_FAILED = 3


@click.command(epilog="Exit codes: 0 all scored, 1 the run failed, 2 wrong use, 3 some files failed, 130 interrupted.")
@click.argument("sources", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "-o", "--out", default="vpipe-scores", show_default=True, type=click.Path(file_okay=False), help="Output directory."
)
@click.option("--sample", metavar="RULE", help="Frames to score: 2/s (the default), every, keyframes or n=32.")
@click.option("--workers", type=click.IntRange(1), help="Decode workers; one a core if not given.")
@click.option("--resume/--fresh", default=True, show_default=True, help="Go on where OUT stopped, or forget it.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write OUT/report.html.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics while the run lasts.")
@click.option("--trace", metavar="FILE", help="Write what every worker was at, for Perfetto and vpipe trace.")
@click.option("--model", metavar="MANIFEST", help="Another quality model: its manifest.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON as each file ends, and no table.")
def score(
    sources: tuple[str, ...],
    out: str,
    sample: str | None,
    workers: int | None,
    resume: bool,
    report: bool,
    metrics: str | None,
    trace: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Score the quality of video files, 0 to 100, without a reference.

    PATH is a file, a directory, a glob, a URL, or - for a list on standard input. OUT gets scores.jsonl,
    frames.parquet and report.html; the same command run again goes on where it stopped.
    """
    start_early()
    from vpipe_score import options
    from vpipe_score.run import ScoreRun

    overrides = options(sample, workers, model)
    with ScoreRun(
        sources,
        out,
        overrides,
        fresh=not resume,
        report=report,
        progress=sys.stderr.isatty(),
        metrics=metrics,
        trace=trace,
    ) as run:
        run.engine.handle_signals()
        try:
            for video in run:
                if as_json:
                    click.echo(json.dumps(video.to_dict()))
        finally:
            # Interrupted or broken off: what is done is told all the same, the error comes after it.
            if not as_json and run.results:
                _tell(run)
        if any(video.status == "failed" for video in run.results):
            sys.exit(SOME_FAILED)


def _tell(run: ScoreRun) -> None:
    from vpipe_score.table import render, shown, sum_up

    terminal = sys.stdout.isatty()
    colour = terminal and "NO_COLOR" not in os.environ
    width = shutil.get_terminal_size((120, 40)).columns if terminal else None
    videos = run.ordered()
    lines = [
        *render(videos, width, colour=colour),
        "",
        sum_up(videos, run.engine.summary()),
        *(shown(str(path)) for path in run.written),
    ]
    for line in lines:
        encoding = sys.stdout.encoding or "utf-8"
        click.echo(line.encode(encoding, "backslashreplace").decode(encoding))

"""`vpipe trace`: draws a trace that a run wrote."""

from __future__ import annotations

from html import escape
from pathlib import Path

import click

from vpipe.errors import UsageError
from vpipe.trace.picture import draw
from vpipe.trace.timeline import Timeline, load

ZOOM_S = 0.25
"""How much of a run is enlarged where nothing else is asked for."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>body {{ margin: 0; background: #fdfdfc; }}
svg {{ display: block; margin: 0 auto; max-width: 100%; height: auto; }}
pre {{ max-width: 1240px; margin: 0 auto 24px; padding: 0 24px; color: #6b7278; font: 12px/1.5 ui-monospace, monospace;
white-space: pre-wrap; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #17191c; }} }}</style></head>
<body>{svg}<pre>{plan}</pre></body></html>
"""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The picture: a name that ends in .html or .svg.",
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another trace, drawn above on the same scale: what it was before.",
)
@click.option("--from", "start_s", type=float, default=0.0, help="First second to show.")
@click.option("--to", "end_s", type=float, help="Last second to show; the end where not given.")
@click.option("--zoom", "zoom_at_s", type=float, help="Where to enlarge, in seconds; the middle where not given.")
@click.option("--zoom-length", "zoom_s", type=float, default=ZOOM_S, show_default=True, help="How much, in seconds.")
def trace(
    file: Path,
    out: Path,
    against: Path | None,
    start_s: float,
    end_s: float | None,
    zoom_at_s: float | None,
    zoom_s: float,
) -> None:
    """Draw who was busy and who waited in FILE, a trace that --trace wrote.

    The file itself opens in Perfetto (ui.perfetto.dev) and in Chrome (chrome://tracing).
    """
    if out.suffix not in (".html", ".svg"):
        raise UsageError(f"-o {out}: ends neither in .html nor in .svg")
    after = load(file)
    timelines = [(_heading(after), after)]
    if against is not None:
        before = load(against)
        timelines.insert(0, (_heading(before), before))
    last = max(timeline.end_s for _, timeline in timelines)
    end_s = last if end_s is None else min(end_s, last)
    if not 0 <= start_s < end_s:
        raise UsageError(f"--from {start_s:g} --to {end_s:g}: shows nothing; the trace is {last:.3f} s long")
    zoom_s = max(0.0, min(zoom_s, end_s - start_s))
    # The middle of the time in which all were at work, so that nothing is enlarged before it began or after it ended.
    ready_s = max(timeline.ready_s for _, timeline in timelines)
    middle = (max(start_s, ready_s) + min(end_s, min(timeline.end_s for _, timeline in timelines))) / 2
    at = min(max(start_s, middle - zoom_s / 2 if zoom_at_s is None else zoom_at_s), end_s - zoom_s)
    svg = draw(timelines, (start_s, end_s), (at, zoom_s))
    if out.suffix == ".html":
        plan = "\n".join(after.facts.get("plan", []))
        svg = PAGE.format(title=escape(_heading(after)), svg=svg, plan=escape(plan, quote=False))
    try:
        out.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {out}: cannot be written: {error.strerror}") from None


def _heading(timeline: Timeline) -> str:
    facts = timeline.facts
    cpu = f" on {facts['cores']} cores of {facts['cpu']}" if "cpu" in facts else ""
    return f"{facts.get('pipeline', 'trace')}: {timeline.end_s:.2f} s{cpu}"

"""A trace as a picture: how many cores were in use, who was busy and who waited, and a stretch of it enlarged.

SVG by hand: a few rectangles and step lines, in the reader's own light or dark colours, with nothing to load.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

import numpy as np

from vpipe.trace.timeline import Floats, Lane, Timeline, Worker

WIDTH, LEFT, RIGHT = 1240, 150, 130
PLOT = WIDTH - LEFT - RIGHT
LANE, GAP, CORES, RING = 22, 6, 74, 13
COLUMNS = PLOT // 2

COLOURS = {
    "decode": "#3f6fb5",
    "view": "#4fa8a0",
    "gather": "#8a6bb1",
    "infer": "#dd8a34",
    "task": "#b0568a",
    "commit": "#7a5c45",
    "work": "#8d9aa8",
    "setup": "#a9b18f",
    "start": "#c3c9b4",
    "wait: model": "var(--model)",
    "wait: ring full": "var(--full)",
    "wait: ring empty": "var(--empty)",
    "wait: nothing to do": "var(--idle)",
    "wait": "var(--idle)",
}
"""By label, from the bottom of a lane to its top; a label that is none of these is drawn as work."""

STYLE = """
.vpipe-trace { --paper: #fdfdfc; --ink: #23272b; --soft: #6b7278; --line: #d9dcde;
  --full: #f0c3bb; --model: #f3dfc3; --empty: #e6e9ec; --idle: #f1f3f4; }
@media (prefers-color-scheme: dark) { .vpipe-trace { --paper: #17191c; --ink: #e6e8ea; --soft: #9aa1a8; --line: #363b41;
  --full: #5e3832; --model: #51432e; --empty: #2b3036; --idle: #212529; } }
.vpipe-trace text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.vpipe-trace .soft { fill: var(--soft); font-size: 11px; }
.vpipe-trace .head { font-size: 15px; font-weight: 600; }
.vpipe-trace .grid { stroke: var(--line); stroke-width: 1; shape-rendering: crispEdges; fill: none; }
.vpipe-trace .limit { stroke: var(--ink); stroke-dasharray: 4 3; fill: none; }
.vpipe-trace .fill { stroke: var(--soft); fill: none; }
.vpipe-trace .zoom { fill: none; stroke: var(--ink); stroke-width: 1.5; }
"""


class _Sheet:
    """What has been drawn so far, from the top down."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = 0.0

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words, quote=False)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, colour: str, title: str = "") -> None:
        told = f"<title>{escape(title, quote=False)}</title>" if title else ""
        self.parts.append(
            f'<rect x="{x:.2f}" y="{y:.1f}" width="{max(width, 0.3):.2f}" height="{height:.1f}" fill="{colour}">'
            f"{told}</rect>"
        )

    def steps(self, values: Floats, bottom: float, height: float, *, fill: str = "", kind: str = "") -> None:
        """Draw a step line through `values`, 0 to 1, one a column; filled down to the bottom where `fill` is given."""
        if not values.any():
            return
        tops = [f"{bottom - value * height:.1f}" for value in values.tolist()]
        step = PLOT / len(tops)
        path, last = f"M{LEFT} {bottom:.1f}", f"{bottom:.1f}"
        for at, top in enumerate(tops):
            if top != last:
                path += f"H{LEFT + at * step:.1f}V{top}"
                last = top
        path += f"H{LEFT + PLOT}" + (f"V{bottom:.1f}Z" if fill else "")
        self.parts.append(f'<path d="{path}" fill="{fill}"/>' if fill else f'<path d="{path}" class="{kind}"/>')


def draw(timelines: list[tuple[str, Timeline]], window_s: tuple[float, float], zoom_s: tuple[float, float]) -> str:
    """Return an SVG of one trace, or of several on one scale of time.

    Args:
        timelines: Each with its heading.
        window_s: What is shown, start and end in seconds since the trace began.
        zoom_s: What is enlarged, start and length in seconds; of length 0: nothing.
    """
    sheet = _Sheet()
    edges = np.linspace(*window_s, COLUMNS + 1)
    for heading, timeline in timelines:
        _overview(sheet, heading, timeline, edges, zoom_s)
    for heading, timeline in timelines:
        if zoom_s[1] > 0:
            _enlarged(sheet, heading, timeline, zoom_s)
    _legend(sheet, [timeline for _, timeline in timelines])
    height = math.ceil(sheet.y + 12)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vpipe-trace" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img"><style>{STYLE}</style>'
        f'<rect width="{WIDTH}" height="{height}" fill="var(--paper)"/>{"".join(sheet.parts)}</svg>\n'
    )


def _overview(sheet: _Sheet, heading: str, timeline: Timeline, edges: Floats, zoom_s: tuple[float, float]) -> None:
    start, end = float(edges[0]), float(edges[-1])
    sheet.y += 30
    sheet.text(LEFT, sheet.y, heading, "head")
    sheet.y += 12
    top = sheet.y
    _cores(sheet, timeline, edges)
    for worker in timeline.workers:
        if len(worker.own.labels):
            _lane(sheet, worker, edges)
    for name, counter in timeline.rings.items():
        slots = max(float(counter.values.max()), 1.0)
        sheet.text(LEFT - 8, sheet.y + RING - 2, f"ring {name}", "soft", "end")
        sheet.text(LEFT + PLOT + 8, sheet.y + RING - 2, f"at most {slots:g} slot{'s' if slots != 1 else ''}", "soft")
        sheet.steps(counter.mean(edges) / slots, sheet.y + RING, RING - 2, kind="fill")
        sheet.y += RING + 3
    _axis(sheet, top, start, end)
    if zoom_s[1] > 0:
        x, width = (zoom_s[0] - start) / (end - start) * PLOT, zoom_s[1] / (end - start) * PLOT
        sheet.parts.append(
            f'<rect x="{LEFT + x:.1f}" y="{top}" width="{width:.1f}" height="{sheet.y - top - 18:.1f}" class="zoom"/>'
        )


def _cores(sheet: _Sheet, timeline: Timeline, edges: Floats) -> None:
    """Draw the cores in use, worker upon worker, under a line at the number there are."""
    limit = float(timeline.facts.get("cores", 1))
    # Samples are some 25 ms apart and not of one moment: cells as wide as that, or sums would go over the top.
    coarse = np.linspace(edges[0], edges[-1], max(2, min(len(edges), int((edges[-1] - edges[0]) / 0.05))))
    each = [worker.cores.mean(coarse) for worker in timeline.workers]
    total = np.sum(each, axis=0)
    bottom = sheet.y + CORES
    for index in range(len(each) - 1, -1, -1):
        below = np.sum(each[: index + 1], axis=0)
        colour = _stage_colour(timeline.workers[index])
        sheet.steps(np.minimum(below / limit, 1.05), bottom, CORES - 8, fill=colour)
    sheet.parts.append(f'<path d="M{LEFT} {bottom - CORES + 8:.1f}h{PLOT}" class="limit"/>')
    sheet.text(LEFT - 8, bottom - CORES + 12, f"{limit:g} cores", "soft", "end")
    sheet.text(LEFT - 8, bottom - 2, "cores in use", "", "end")
    used = total[total > 0.02]
    sheet.text(LEFT + PLOT + 8, bottom - 2, f"{float(used.mean()) if len(used) else 0.0:.2f} in use", "soft")
    sheet.y = bottom + GAP


def _lane(sheet: _Sheet, worker: Worker, edges: Floats) -> None:
    bottom = sheet.y + LANE
    shares = {label: worker.own.share(label, edges) for label in ordered([worker.own])}
    if worker.batches:
        # Its own loop waits for the model while the model's threads, which are its too, compute.
        shares["infer"] = shares.pop("wait: model", np.zeros(len(edges) - 1))
    known = [label for label in COLOURS if label in shares] + [label for label in shares if label not in COLOURS]
    for index in range(len(known) - 1, -1, -1):
        level = np.sum([shares[label] for label in known[: index + 1]], axis=0)
        sheet.steps(np.minimum(level, 1.0), bottom, LANE, fill=colour_of(known[index]))
    # Of its time at work: how long it took to get ready is another question.
    at_work = {label: share for label, share in shares.items() if label not in ("start", "setup")}
    there = float(np.sum(list(at_work.values())))
    busy = float(np.sum([share for label, share in at_work.items() if not label.startswith("wait")]))
    sheet.text(LEFT - 8, bottom - 7, worker.name, "", "end")
    if there:
        sheet.text(LEFT + PLOT + 8, bottom - 7, f"busy {busy / there:.0%}", "soft")
    sheet.y = bottom + GAP


def _enlarged(sheet: _Sheet, heading: str, timeline: Timeline, zoom_s: tuple[float, float]) -> None:
    """Draw every span of a stretch as it was."""
    start, length = zoom_s
    sheet.y += 30
    sheet.text(LEFT, sheet.y, f"{heading}: {length * 1e3:.0f} ms, enlarged", "head")
    sheet.y += 12
    top = sheet.y
    for worker in timeline.workers:
        for lane in (worker.own, *worker.batches):
            if not len(lane.labels):
                continue
            name = worker.name if lane is worker.own else f"{lane.name}"
            sheet.text(LEFT - 8, sheet.y + LANE - 7, name, "" if lane is worker.own else "soft", "end")
            for x, width, label, title in _slices(lane, start, length):
                sheet.box(LEFT + x, sheet.y, width, LANE, colour_of(label), title)
            sheet.y += LANE + GAP
    _axis(sheet, top, start, start + length)


def _slices(lane: Lane, start: float, length: float) -> Iterator[tuple[float, float, str, str]]:
    """Yield x, width, label and words of each span that reaches into a stretch."""
    first = int(np.searchsorted(lane.ends, start, "right"))
    last = int(np.searchsorted(lane.starts, start + length, "left"))
    for i in range(first, last):
        begin, end = max(lane.starts[i], start), min(lane.ends[i], start + length)
        told = "".join(f", {name} {value}" for name, value in lane.arguments[i].items())
        words = f"{lane.labels[i]}: {(lane.ends[i] - lane.starts[i]) * 1e3:.3f} ms{told}"
        yield (begin - start) / length * PLOT, (end - begin) / length * PLOT, lane.labels[i], words


def _axis(sheet: _Sheet, top: float, start: float, end: float) -> None:
    """Draw lines and words at round times."""
    step = _round((end - start) / 8)
    at = math.ceil(start / step - 1e-9) * step
    while at <= end + 1e-9:
        x = LEFT + (at - start) / (end - start) * PLOT
        sheet.parts.append(f'<path d="M{x:.1f} {sheet.y:.1f}v4" class="grid"/>')
        sheet.text(x, sheet.y + 16, f"{at:.{max(0, -math.floor(math.log10(step) + 1e-9))}f} s", "soft", "middle")
        at += step
    sheet.parts.append(f'<path d="M{LEFT} {sheet.y:.1f}h{PLOT}M{LEFT} {top:.1f}V{sheet.y:.1f}" class="grid"/>')
    sheet.y += 22


def _round(value: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _legend(sheet: _Sheet, timelines: list[Timeline]) -> None:
    lanes = [lane for each in timelines for worker in each.workers for lane in (worker.own, *worker.batches)]
    sheet.y += 14
    x = float(LEFT)
    for label in ordered(lanes):
        if x > LEFT + PLOT - 60:
            x, sheet.y = float(LEFT), sheet.y + 20
        sheet.box(x, sheet.y, 12, 12, colour_of(label))
        sheet.text(x + 17, sheet.y + 10.5, label)
        x += 34 + 6.6 * len(label)
    sheet.y += 22


def ordered(lanes: list[Lane]) -> list[str]:
    """Return the labels that some lanes have, in the order of the legend."""
    there = {label for lane in lanes for label in lane.labels}
    return [label for label in COLOURS if label in there] + sorted(there - COLOURS.keys())


def colour_of(label: str) -> str:
    """Return a label's colour."""
    return COLOURS.get(label, COLOURS["work"])


def _stage_colour(worker: Worker) -> str:
    """Return the colour of what a worker mostly works on."""
    stage = worker.name.partition("[")[0].partition(".")[0]
    return colour_of({"preprocess": "gather", "postprocess": "task", "naive": "decode"}.get(stage, stage))

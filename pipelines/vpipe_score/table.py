"""The end of `vpipe score` on a terminal: a table a person can read, and one line that sums it up."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from vpipe_score.results import VideoScore

MOST_ROWS = 40
"""Of a longer run only the worst and the failed are shown; the rest is in scores.jsonl."""

LEAST_PATH = 20
"""Columns of the terminal that a path gets even where it makes the table too wide."""

MOST_PATH = 72

_COLOURS = {"excellent": "green", "good": "green", "fair": "yellow", "poor": "red", "bad": "bright_red"}
_HEAD = ("file", "score", "grade", "worst second", "faults", "length", "picture")
_RIGHT = {"score", "length"}


def render(videos: Sequence[VideoScore], width: int | None, *, colour: bool) -> list[str]:
    """Return the table's lines.

    Args:
        videos: Results in the order of the inputs.
        width: Of the terminal, in columns; paths are shortened to fit. None: there is no terminal, and they are whole.
        colour: Mark grades and failures with ANSI colours.
    """
    scored = [video for video in videos if video.status == "scored"]
    failed = [video for video in videos if video.status == "failed"]
    told_scored, told_failed = scored, failed
    if len(videos) > MOST_ROWS:
        told_failed = failed[: MOST_ROWS // 2]
        worst = sorted(scored, key=lambda video: -1.0 if video.score is None else video.score)
        told_scored = worst[: MOST_ROWS - len(told_failed)]
    lines = []
    if told_scored:
        lines += _table(told_scored, width, colour)
        if len(told_scored) < len(scored):
            lines.append(f"... the {len(told_scored)} worst of {len(scored)} scored files")
    if told_failed:
        lines += ["", "failed:"] if lines else ["failed:"]
        for video in told_failed:
            assert video.error is not None
            kind = click.style(video.error.kind, fg="red") if colour else video.error.kind
            # The message often begins with the path, which is long enough once.
            message = video.error.message.removeprefix(video.path).lstrip(": ")
            lines.append(f"  {shown(video.path)}  {kind}: {shown(message)}")
        if len(told_failed) < len(failed):
            lines.append(f"  ... and {len(failed) - len(told_failed)} more")
    return lines


def _table(videos: Sequence[VideoScore], width: int | None, colour: bool) -> list[str]:
    cells = [_HEAD, *(_cells(video) for video in videos)]
    widths = [max(columns_of(row[at]) for row in cells) for at in range(len(_HEAD))]
    if width is not None:
        others = sum(widths[1:]) + 2 * (len(_HEAD) - 1)
        widths[0] = min(widths[0], max(LEAST_PATH, min(MOST_PATH, width - others)))
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for name, text, room in zip(_HEAD, (shorten(row[0], widths[0]), *row[1:]), widths, strict=True):
            space = " " * (room - columns_of(text))
            styled = _style(name, text, heading=number == 0) if colour else text
            parts.append(space + styled if name in _RIGHT else styled + space)
        lines.append("  ".join(parts).rstrip())
    return lines


def _style(column: str, text: str, *, heading: bool) -> str:
    if heading:
        return click.style(text, bold=True)
    return click.style(text, fg=_COLOURS[text]) if column == "grade" and text in _COLOURS else text


def _cells(video: VideoScore) -> tuple[str, ...]:
    faults = [fault for fault in video.faults if fault.weight >= 0.1][:2]
    worst = "-" if video.worst is None else f"{video.worst.score:.0f} at {clock(video.worst.at_s)}"
    return (
        shown(video.path),
        "-" if video.score is None else f"{video.score:.1f}",
        video.grade or "-",
        worst,
        ", ".join(f"{fault.kind} {fault.weight:.2f}" for fault in faults) or "-",
        "-" if video.duration_s is None else clock(video.duration_s),
        f"{video.width}x{video.height} {video.codec}",
    )


def sum_up(videos: Sequence[VideoScore], run: Mapping[str, Any]) -> str:
    """Return one line about the whole run.

    Args:
        videos: Results.
        run: The engine's summary: `seconds`, `frames`, `fps`, `reused`.
    """
    scored = [video for video in videos if video.status == "scored"]
    scores = [video.score for video in scored if video.score is not None]
    failed = len(videos) - len(scored)
    parts = [f"{len(scored)} scored" + (f" (mean {sum(scores) / len(scores):.1f})" if scores else "")]
    if failed:
        parts.append(f"{failed} failed")
    if run.get("reused"):
        parts.append(f"{run['reused']} reused")
    length = sum(video.duration_s or 0.0 for video in scored)
    seconds = float(run["seconds"])
    rate = f"{length / seconds:.0f}x real time, " if seconds > 0 and not run.get("reused") else ""
    parts.append(
        f"{clock(length)} of video in {seconds:.1f} s ({rate}{run['frames']} frames, {run['fps']:.0f} frames/s)"
    )
    return "; ".join(parts)


def clock(seconds: float) -> str:
    """Return a time as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shown(text: str) -> str:
    r"""Return text that is safe on a terminal: control characters and stray bytes are spelled `\n`, `\x1b`, `\xe9`."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in clean)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters take two, combining ones none."""
    return sum(_columns(text))


def _columns(text: str) -> Iterable[int]:
    return (0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, room: int) -> str:
    """Return a text that takes at most `room` columns, its middle left out; the end, where names differ, is kept."""
    if columns_of(text) <= room:
        return text
    left = (room - 3) // 3
    return _take(text, left) + "..." + _take(text[::-1], room - 3 - left)[::-1]


def _take(text: str, room: int) -> str:
    used = 0
    for at, columns in enumerate(_columns(text)):
        used += columns
        if used > room:
            return text[:at]
    return text

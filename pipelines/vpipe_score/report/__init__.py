"""The report of `vpipe score`: one page, complete in itself, that shows what the rows and frames say.

    write_report -> page.html.j2, with style.css and js/*.js inlined
                 -> series   one video's frames, thinned to what a page can hold
                 -> embed    values into the page, safely

The page asks the network for nothing and says so in its Content-Security-Policy, which also names its one script and
its one style by hash: nothing that a file name could smuggle in would run. Each video's frames lie in a data block of
their own, parsed when they are looked at, so thousands of videos open as fast as ten.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from vpipe.sinks import atomic_file
from vpipe.task import Columns
from vpipe_score.pooling import GRADES
from vpipe_score.report.embed import csp_hash, readable, script_json
from vpipe_score.report.series import THUMBNAIL_BYTES, Limits, detail
from vpipe_score.results import VideoScore

_SCRIPTS = ("base", "data", "overview", "chart", "panel", "table", "main")


def write_report(
    out: Path,
    rows: list[VideoScore],
    frames: Callable[[VideoScore], Columns | None],
    run: Mapping[str, Any],
) -> Path:
    """Write `out/report.html`: the whole page, or nothing.

    Args:
        out: The output directory; it exists.
        rows: One row per input, in the order in which they were named.
        frames: Returns a video's per-frame columns and thumbnails (see `vpipe_score.results`), or None where there
            are none. Called once per scored video, the lowest score first; nothing is kept between calls.
        run: What the run was, for people; every part may be missing: `started` (text), `seconds`, `files` (done in
            this run), `frames_decoded`, `frames_scored`, `fps`, `host` (`cpu`, `cores`), `versions` (by name),
            `stages` (by name: `workers`, and `busy`, `wait`, each a share 0..1 of the workers' time).

    Returns:
        The page's path.

    Raises:
        ResourceError: The page cannot be written; an older one is as it was.
    """
    parts = files(__package__)
    body = "\n".join((parts / "js" / f"{name}.js").read_text("utf-8") for name in _SCRIPTS)
    script = f'(() => {{\n"use strict";\n{body}}})();'
    style = (parts / "style.css").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    keys = _keys(rows)
    page = environment.from_string((parts / "page.html.j2").read_text("utf-8")).generate(
        headline=_headline(rows, run),
        policy=f"default-src 'none'; img-src data:; style-src {csp_hash(style)}; script-src {csp_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        details=_details(rows, keys, frames),
        data=script_json({"grades": [*GRADES, (0.0, "bad")], "rows": list(map(_row, rows, keys)), "run": run}),
    )
    path = out / "report.html"
    with atomic_file(path) as file:
        for piece in page:
            file.write(piece.encode())
    return path


def _keys(rows: list[VideoScore]) -> list[str]:
    """Return a short name of each row for links: from its path, so that a link holds from one run to the next."""
    seen: dict[str, int] = {}
    keys = []
    for row in rows:
        key = hashlib.sha256(row.path.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[key] = seen.get(key, 0) + 1
        keys.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return keys


def _headline(rows: list[VideoScore], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands at the top, and in the page for those who run no scripts."""
    scores = [row.score for row in rows if row.score is not None]
    return {
        "videos": len(rows),
        "scored": sum(row.status == "scored" for row in rows),
        "failed": sum(row.status == "failed" for row in rows),
        "median": f"{statistics.median(scores):.1f}" if scores else None,
        "started": readable(str(run.get("started") or "")),
        "models": sorted({readable(f"{row.model.name} {row.model.version}") for row in rows if row.model}),
    }


def _row(row: VideoScore, key: str) -> dict[str, Any]:
    """Return a row as the page reads it: that of scores.jsonl, and `id`."""
    return {"id": key, **row.to_dict()}


def _details(
    rows: list[VideoScore], keys: list[str], frames: Callable[[VideoScore], Columns | None]
) -> Iterator[tuple[str, str]]:
    """Yield each scored video's link name and details; the worst come first, so that thumbnails never lack there."""
    scored = [(row, key) for row, key in zip(rows, keys, strict=True) if row.status == "scored"]
    limits = Limits.of_page(len(scored))
    room = THUMBNAIL_BYTES
    for row, key in sorted(scored, key=lambda pair: pair[0].score or 0):
        columns = frames(row)
        if columns is not None and len(columns["pts_s"]):
            values, taken = detail(row, columns, limits, room)
            room -= taken
            yield key, script_json(values)

"""No-reference quality scores of many video files, with the kind of fault found.

::

    import vpipe_score

    for video in vpipe_score.score(["archive/"], out="scores"):
        print(video.path, video.score, video.grade)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpipe.plugin import Command, Plugin

if TYPE_CHECKING:
    from vpipe_score.results import VideoScore

__version__ = "0.1.0"

PIPELINE = Path(__file__).with_name("pipeline.toml")

plugin = Plugin(
    pipeline=PIPELINE,
    baselines={"naive": "vpipe_score.naive"},
    commands={"score": Command("vpipe_score.cli:score", "Score the quality of video files, without a reference.")},
)


def score(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    *,
    sample: str | None = None,
    workers: int | None = None,
    model: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    report: bool = False,
    progress: bool = False,
) -> Iterator[VideoScore]:
    """Score videos and yield each result as its file is done; files that fail are yielded too.

    Nothing starts before the first result is asked for. Leaving the loop early ends the run; with the same `out` the
    next call goes on where it stopped.

    Args:
        sources: Files, directories, globs or URLs.
        out: The output directory: scores.jsonl, frames.parquet and the ledger. None: nothing is kept.
        sample: `2/s` (the default), `every`, `keyframes` or `n=32`.
        workers: Decode workers; one a core where not given.
        model: Another model's manifest.
        fresh: Forget what is done in `out`.
        report: Also write report.html into `out`.
        progress: Show a progress bar on standard error.

    Raises:
        VpipeError: The run cannot start, or failed as a whole.
    """
    from vpipe_score.run import ScoreRun

    with ScoreRun(sources, out, options(sample, workers, model), fresh=fresh, report=report, progress=progress) as run:
        yield from run


def options(
    sample: str | None = None, workers: int | None = None, model: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """Return the values of the pipeline file that these options replace, by dotted path."""
    values = {
        "source.sample": sample,
        "decode.workers": workers,
        "branches.0.infer.model": None if model is None else os.path.abspath(model),
    }
    return {name: value for name, value in values.items() if value is not None}

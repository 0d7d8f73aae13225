"""Portrait masks of live streams and files, so that comments pass behind people.

::

    import vpipe_mask

    for video in vpipe_mask.mask(["talks/"], out="masks"):
        print(video.path, video.files)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpipe.plugin import Command, Fetchable, Plugin

if TYPE_CHECKING:
    from vpipe_mask.results import VideoMasks

__version__ = "0.1.0"

PIPELINE = Path(__file__).with_name("pipeline.toml")

PORTRAIT = "portrait"
"""The net that is used where no other is named."""

plugin = Plugin(
    pipeline=PIPELINE,
    quality="vpipe_mask.quality:figures",
    baselines={"naive": "vpipe_mask.naive", "mediapipe": "vpipe_mask.with_mediapipe"},
    commands={"mask": Command("vpipe_mask.cli:mask", "Make portrait masks, so that comments pass behind people.")},
    models={
        PORTRAIT: Fetchable(
            "vpipe_mask.portrait:fetch", "0.10.21+1", "MediaPipe's portrait nets, from its wheel (a 36 MB download)"
        )
    },
)


def mask(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] | None = None,
    every: int | None = None,
    knobs: Mapping[str, Any] | None = None,
    model: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    fresh: bool = False,
    progress: bool = False,
) -> Iterator[VideoMasks]:
    """Make the masks of videos and yield each result as its file is done; files that fail are yielded too.

    Nothing starts before the first result is asked for. Leaving the loop early ends the run; with the same `out` the
    next call goes on where it stopped.

    Args:
        sources: Files, directories, globs or URLs.
        out: The output directory: mask files, masks.jsonl, frames.parquet and the ledger.
        formats: Names of mask file formats; webmask and mobmask where not given.
        every: Run the net on every Nth frame; between them masks are moved along with the picture.
        knobs: Of the filter, by name; see `vpipe_mask.filter.FilterOptions`.
        model: `portrait` (the default), `portrait/square`, or another model's manifest.
        workers: Decode workers; one a core where not given.
        fresh: Forget what is done in `out`.
        progress: Show a progress bar on standard error.

    Raises:
        VpipeError: The run cannot start, or failed as a whole.
    """
    from vpipe_mask.run import MaskRun

    chosen = options(formats=formats, every=every, knobs=knobs, model=model, workers=workers)
    with MaskRun(sources, out, chosen, fresh=fresh, progress=progress) as run:
        yield from run


def options(
    *,
    formats: Sequence[str] | None = None,
    every: int | None = None,
    knobs: Mapping[str, Any] | None = None,
    model: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Return the values of the pipeline file that these options replace, by dotted path.

    A model that is fetched is brought first where it is not there yet.
    """
    from vpipe.models import ensure

    name = os.fspath(model or PORTRAIT)
    fetched = name.partition("/")[0] == PORTRAIT and not os.path.exists(name)
    manifest = ensure(name) if fetched else Path(os.path.abspath(name))
    values: dict[str, Any] = {"branches.0.infer.model": str(manifest)}
    given = {
        "decode.workers": workers,
        "branches.0.infer.every": every,
        "branches.0.postprocess.options.formats": None if formats is None else list(formats),
        "branches.0.postprocess.options.filter": None if knobs is None else dict(knobs),
    }
    return values | {path: value for path, value in given.items() if value is not None}

"""One run of `vpipe mask` over files, as the command and the Python API share it."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import vpipe
from vpipe_mask import PIPELINE
from vpipe_mask.filter import FilterOptions
from vpipe_mask.formats import FORMATS, Alpha
from vpipe_mask.results import VideoMasks


class MaskRun(vpipe.TypedRun[VideoMasks]):
    """A run of the mask pipeline."""

    def __init__(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        overrides: dict[str, Any],
        **how: Any,
    ) -> None:
        """Start a run; see `vpipe_mask.mask` and `vpipe.TypedRun`."""
        super().__init__(VideoMasks, vpipe.Pipeline.load(PIPELINE, overrides), sources, out, **how)


def soft_masks(out: Path, video: VideoMasks) -> Iterator[tuple[float, Alpha]]:
    """Yield the masks of a video from its alpha file: seconds since its first frame, and (h, w) uint8."""
    suffix = FORMATS["alpha"].suffix
    path = next(out / name for name in video.files if name.endswith(suffix))
    first: int | None = None
    for pts_ms, alpha in FORMATS["alpha"].read(path):
        first = pts_ms if first is None else first
        yield (pts_ms - first) / 1000, alpha


def raw_masks(path: str, overrides: dict[str, Any]) -> Iterator[tuple[float, Alpha]]:
    """Yield the masks of a video as the net draws them, timed as by `soft_masks`; a run of its own."""
    chosen = overrides | {
        "branches.0.postprocess.options.formats": ["alpha"],
        "branches.0.postprocess.options.filter": dataclasses.asdict(AS_DRAWN),
    }
    with tempfile.TemporaryDirectory() as folder:
        with MaskRun(path, folder, chosen) as run:
            (video,) = list(run)
        if video.error is None:
            yield from soft_masks(Path(folder), video)


AS_DRAWN = FilterOptions(edge_reach=0, edge_soft=1.0, steady=0.0, shrink=1, small=0.0, least_person=0.0, most_cover=1.0)
"""The filter that leaves the net's masks as they are."""

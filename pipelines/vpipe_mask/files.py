"""The sink of `vpipe mask`: the mask files of each video, assembled from what the task has encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vpipe.errors import ConfigError, MediaError
from vpipe.sinks import Sink
from vpipe.task import Columns
from vpipe_mask.formats import FORMATS, MaskFileError, Record
from vpipe_mask.task import data_column, size_column


class MaskFiles(Sink):
    """Writes `NAME.webmask` and the like into the output directory. Option: `branch`, the one that makes the masks."""

    def __init__(self, options: Mapping[str, Any], out: Path) -> None:
        super().__init__(options, out)
        if set(self.options) != {"branch"}:
            raise ConfigError(f"sinks.options: mask files take one option, branch (got {', '.join(options) or 'none'})")

    def write(self, row: Mapping[str, Any], name: str, columns: Callable[[str], Columns | None]) -> dict[str, Any]:
        """Write every format that the task has encoded; returns their names as `files`."""
        found = columns(self.options["branch"])
        if found is None:
            return {}
        files = []
        for format_ in FORMATS.values():
            if data_column(format_.name) not in found:
                continue
            path = self.out / f"{name}{format_.suffix}"
            try:
                format_.write(path, records(found, format_.name, row["time_base"]))
            except MaskFileError as error:
                raise MediaError("mask_file", str(error)) from None
            files.append(path.name)
        return {"files": files}


def records(columns: Columns, name: str, time_base: tuple[int, int]) -> Iterator[Record]:
    """Yield the frames of a stream in one format, in order of time.

    Args:
        columns: A stream's, from the mask task.
        name: Of the format.
        time_base: Numerator and denominator of the unit of `pts`, seconds.
    """
    data = columns[data_column(name)].ravel().tobytes()
    ends = columns[size_column(name)].cumsum().tolist()
    base = (int(time_base[0]), int(time_base[1]))
    start = 0
    for pts, pts_s, end in zip(columns["pts"].tolist(), columns["pts_s"].tolist(), ends, strict=True):
        yield Record(pts, base, round(pts_s * 1000), data[start:end])
        start = end

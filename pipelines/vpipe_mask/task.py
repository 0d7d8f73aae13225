"""The task of `vpipe mask`: filters the net's masks and encodes them, for files a segment, for live streams at once."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import ConfigError
from vpipe.frame import LUMA, FrameFlag, StreamInfo
from vpipe.task import Batch, Columns, Task
from vpipe_mask.agreement import differences
from vpipe_mask.code import WHOLE, Encoder, MaskFrame
from vpipe_mask.filter import Filtered, FilterOptions, MaskFilter
from vpipe_mask.formats import DEFAULT, FORMATS

_CARRIED = int(FrameFlag.CARRIED)
MASK = "mask"
"""The model's output: (n, h, w), float32 0..1 or uint8 0..255."""

MEMORIES = 64
"""Filters of unfinished segments; far more than can be under way at a time."""


def data_column(name: str) -> str:
    """Return the column with the bytes of all frames in the format `name`: uint8, (bytes, 1)."""
    return f"{name}_data"


def size_column(name: str) -> str:
    """Return the column with the size of each frame in the format `name`, bytes."""
    return f"{name}_bytes"


class MaskTask(Task):
    """Options: `formats`, names of `vpipe_mask.formats.FORMATS`; `filter`, fields of `FilterOptions`."""

    version = "1"
    unit, same, near = "of 1 - IoU", 0.005, 0.01
    in_sequence = True
    carries = True
    frame_version = "2"
    frame_options = ("formats", "filter")

    def __init__(self, options: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(options, labels)
        for name in self.options:
            if name not in self.frame_options:
                raise ConfigError(f"postprocess.options.{name}: no such option; the mask task has formats and filter")
        self._formats = check_formats(self.options.get("formats", DEFAULT))
        self._filter = filter_options(self.options.get("filter", {}))
        self._memories: OrderedDict[tuple[int, int, int], MaskFilter] = OrderedDict()
        self._live: dict[int, _Live] = {}

    # --- files ---

    def on_batch(self, batch: Batch) -> Columns:
        """Return each frame's mask in every format, as bytes, and what the filter found."""
        found: list[tuple[float, bool, bool]] = []
        coded: dict[str, list[bytes]] = {name: [] for name in self._formats}
        for row, header in enumerate(batch.frames):
            filtered = step(self._memory(batch, header), batch, row)
            found.append((filtered.cover, filtered.applied, filtered.cut))
            for name, frames in coded.items():
                form = FORMATS[name]
                frames.append(form.encode(filtered.soft if form.any_size else filtered.alpha, filtered.outline))
        cover, applied, cut = zip(*found, strict=True)
        columns: Columns = {
            "cover": np.array(cover, np.float32),
            "applied": np.array(applied, bool),
            "cut": np.array(cut, bool),
        }
        for name, frames in coded.items():
            columns[data_column(name)] = np.fromiter(frames, object, len(frames))
        return columns

    @classmethod
    def differences(
        cls, reference: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Return 1 - IoU of each frame's mask."""
        return differences(reference, found)

    def on_segment(self, stream: StreamInfo, columns: Columns) -> Columns:
        """Join the bytes of each format; per frame their sizes stay."""
        columns = dict(columns)
        for name in self._formats:
            frames = columns.pop(data_column(name), ())
            columns[size_column(name)] = np.array([len(data) for data in frames], np.int32)
            columns[data_column(name)] = np.frombuffer(b"".join(frames), np.uint8).reshape(-1, 1)
        return columns

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        """Return how much of the video has masks."""
        applied, cover = columns.get("applied", np.empty(0, bool)), columns.get("cover", np.empty(0, np.float32))
        return {
            "masks": len(applied),
            "applied": round(float(applied.mean()), 4) if len(applied) else 0.0,
            "cover": round(float(cover[applied].mean()), 4) if applied.any() else 0.0,
            "cuts": int(np.count_nonzero(columns.get("cut", ()))),
        }

    def _memory(self, batch: Batch, header: np.void) -> MaskFilter:
        key = int(header["stream"]), int(header["segment"]), int(header["attempt"])
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = make_filter(self._filter, batch)
            if len(self._memories) > MEMORIES:
                self._memories.popitem(last=False)
        return memory

    # --- live ---

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        """Return the feed's message of each frame, see `vpipe_mask.code`."""
        epoch = int(batch.frames[0]["epoch"])
        live = self._live.get(stream.stream)
        if live is None or live.epoch != epoch:
            live = self._live[stream.stream] = _Live(epoch, make_filter(self._filter, batch))
        return [live.message(step(live.filter, batch, row), stream, header) for row, header in enumerate(batch.frames)]

    def end_live(self, stream_id: int) -> None:
        """Forget a stream."""
        self._live.pop(stream_id, None)


@dataclasses.dataclass
class _Live:
    """What is remembered of a live stream within an epoch."""

    epoch: int
    filter: MaskFilter
    encoder: Encoder = dataclasses.field(default_factory=Encoder)
    sequence: int = 0

    def message(self, filtered: Filtered, stream: StreamInfo, header: np.void) -> bytes:
        """Return the message of the next mask."""
        numerator, denominator = int(header["tb_num"]), int(header["tb_den"])
        frame = MaskFrame(
            epoch=self.epoch,
            sequence=self.sequence,
            pts_us=int(header["pts"]) * numerator * 1_000_000 // denominator,
            duration_us=round(1e6 / stream.frame_rate) if stream.frame_rate > 0 else 0,
            arrival_us=int(header["arrival_ns"]) // 1000,
            rect=WHOLE,
            rotation=0,  # views are upright, and so are the masks of them
            applied=filtered.applied,
            outline=filtered.outline,
        )
        self.sequence += 1
        return self.encoder.encode(frame)


def step(memory: MaskFilter, batch: Batch, row: int) -> Filtered:
    """Filter one row of a batch; the model was not run on a carried one."""
    carried = batch.frames[row]["flags"] & _CARRIED
    return memory.step(None if carried else batch.fields[MASK][row], batch.fields[LUMA][row])


def make_filter(options: FilterOptions, batch: Batch) -> MaskFilter:
    """Return a fresh filter for views of the batch's size."""
    height, width = batch.fields[LUMA].shape[1:]
    return MaskFilter(options, width, height)


def check_formats(value: Any) -> tuple[str, ...]:
    """Return format names as a tuple.

    Raises:
        ConfigError: One is unknown.
    """
    names = tuple(value) if isinstance(value, list | tuple) else (value,)
    for name in names:
        if name not in FORMATS:
            raise ConfigError(
                f"postprocess.options.formats: {name!r} is not a mask format; known: {', '.join(FORMATS)}"
            )
    return tuple(dict.fromkeys(names))


def filter_options(values: Any) -> FilterOptions:
    """Return the filter's knobs from plain values.

    Raises:
        ConfigError: A knob is unknown, or its value does not fit.
    """
    where = "postprocess.options.filter"
    known = {field.name for field in dataclasses.fields(FilterOptions)}
    if not isinstance(values, Mapping) or set(values) - known:
        odd = ", ".join(sorted(set(values) - known)) if isinstance(values, Mapping) else repr(values)
        raise ConfigError(f"{where}: {odd}: no such knob; the filter has {', '.join(sorted(known))}")
    try:
        return FilterOptions(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None

"""Named saboteurs: tasks and decoders that misbehave in one way each.

Tasks are named in a pipeline as `tests.faults:CLASS`. Decoders are chosen by a word in the file's name, once
`saboteurs(folder)` is on the import path of the workers:

    never-ends   packets come for ever, and no frame
    hangs        the first frame never comes, and the worker shows no life
    crashes      the worker dies of a segmentation fault
    babbles      the worker writes nonsense to its control channel
    gated        after `GATE_FRAMES` frames of the first segment it waits, alive, until the file `PATH.go` exists
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vpipe import Batch, Columns, StreamInfo, Task

GATE_FRAMES = 5
TURN_S = 0.01

# --- tasks ---


class Record(Task):
    """Behaves: keeps what the model gave, and a checksum of the view's histogram, for every frame."""

    def on_batch(self, batch: Batch) -> Columns:
        columns: Columns = {}
        for name, values in batch.fields.items():
            if name == "histogram":
                columns["check"] = np.array([zlib.crc32(counts.tobytes()) for counts in values], np.int64)
            else:
                columns[name] = np.array(values).reshape(len(batch), -1)[:, 0]
        return columns

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        pts = columns["pts"]
        weight = int(self.options.get("weight", 1))
        total = int(columns["check"].sum()) if "check" in columns else 0
        return {"count": len(pts), "total": total * weight, "rising": bool((np.diff(pts) > 0).all())}


class InOrder(Record):
    """Behaves, and asks for segments in order of time; its row tells the order in which they came."""

    ordered = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last: dict[int, int] = {}

    def on_segment(self, stream: StreamInfo, columns: Columns) -> Columns:
        first = int(columns["pts"][0]) if len(columns["pts"]) else 0
        late = first < self._last.get(stream.stream, -(1 << 62))
        self._last[stream.stream] = first
        return {**columns, "late": np.full(len(columns["pts"]), late)}

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        return {**super().on_stream(stream, columns), "late": int(columns["late"].sum())}


class Weighed(Record):
    """Behaves; its row holds, for each segment, how coarsely its packets were coded (None: not known)."""

    def on_segment(self, stream: StreamInfo, columns: Columns) -> Columns:
        return {**columns, **{name: columns[f"_{name}"] for name in ("key_quantiser", "other_quantiser")}}

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        told = {name: columns[name].tolist() for name in ("key_quantiser", "other_quantiser")}
        return {name: [None if np.isnan(value) else value for value in values] for name, values in told.items()}


class RaisesInBatch(Task):
    """Raises on every batch."""

    def on_batch(self, batch: Batch) -> Columns:
        raise ZeroDivisionError("the task divides by nothing")


class RaisesInStream(Record):
    """Raises at the end of every stream."""

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        raise LookupError("the task has lost its way")


class Undefined(Record):
    """Behaves, but finds a number that JSON has no word for."""

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        return {**super().on_stream(stream, columns), "score": float("nan")}


class Miscounts(Task):
    """Returns fewer values than frames."""

    def on_batch(self, batch: Batch) -> Columns:
        return {"value": np.zeros(len(batch) + 1)}


class DiesInStream(Record):
    """Takes its whole worker down at the end of every stream, with a last word."""

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        print("the last word of a dying task", flush=True)
        os._exit(7)


# --- decoders ---

_SITE = """
import sys
if "vpipe.forkserver" in sys.orig_argv:
    from tests.faults import install
    install({shortest})
"""


def saboteurs(folder: Path, shortest: int = 120) -> Path:
    """Write what makes every worker whose import path starts with `folder` load the decoders above.

    Args:
        folder: Where to.
        shortest: Frames of a segment at least, so that short clips are cut too.
    """
    (folder / "sitecustomize.py").write_text(_SITE.format(shortest=shortest))
    return folder


def install(shortest: int) -> None:
    """Put the saboteurs into the decoder of all workers; called in what they are forked from by `saboteurs`' file."""
    from vpipe.media import Segment, segments
    from vpipe.media.live import LiveContainer
    from vpipe.media.media import Media

    segments.SHORTEST = shortest
    read, packets = Media.read, LiveContainer.packets

    def sabotaged_live(self: LiveContainer) -> Iterator[Any]:
        name = os.path.basename(self.path)
        if "hangs" in name:
            threading.Event().wait()
        if "babbles" in name:
            os.write(int(sys.argv[1]), b'{"op":"epoch","epoch":"never"}\n')
        if "crashes" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield from packets(self)

    def sabotaged(
        self: Media, segment: Segment, *arguments: Any, beat: Callable[[], None], **named: Any
    ) -> Iterator[Any]:
        name = os.path.basename(self.path)
        while "never-ends" in name:
            threading.Event().wait(TURN_S)
            beat()
        if "hangs" in name:
            signal.pause()
        if "babbles" in name:
            os.write(int(sys.argv[1]), b"nonsense\n")
            signal.pause()
        if "crashes" in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        for number, picture in enumerate(read(self, segment, *arguments, beat=beat, **named)):
            held = "gated" in name and segment.number == 0 and number >= GATE_FRAMES
            while held and not os.path.exists(self.path + ".go"):
                threading.Event().wait(TURN_S)
                beat()
            yield picture

    Media.read = sabotaged  # type: ignore[method-assign]
    LiveContainer.packets = sabotaged_live  # type: ignore[method-assign]

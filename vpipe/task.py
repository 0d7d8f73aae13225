"""What a product writes: its own code behind the model.

A task runs in the postprocess worker. It turns model outputs into columns, one value a frame, and a stream's
columns into one row. It keeps no files and starts nothing; the engine commits what it returns.

Of a live stream there are no segments and no end to wait for: there the task runs in the publish worker and turns
frames into messages, at once.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import ConfigError, VpipeError
from vpipe.frame import StreamInfo

loading: list[str] = []
"""Tasks whose modules are being imported just now."""

Columns = dict[str, NDArray[Any]]
"""Named arrays. A 1-D column as long as `pts` holds one value a frame and goes to frames.parquet."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Some frames of any streams, as they come out of the model.

    The arrays are borrowed from a ring slot, valid only inside `Task.on_batch` and `Task.on_live`: copy what is kept.
    """

    frames: NDArray[np.void]
    """(n,) of `vpipe.frame.FRAME`."""
    fields: Mapping[str, NDArray[Any]]
    """Model outputs by name, and companions (`histogram`, `luma`, `picture`) where the view has them; each (n, ...)."""

    def __len__(self) -> int:
        return len(self.frames)


class Task:
    """Base class of all tasks; override what the product needs."""

    version: ClassVar[str] = "1"
    """Change it when the same columns give another row: finished rows are then made again, without decoding."""
    ordered: ClassVar[bool] = False
    """True: segments of a stream reach `on_segment` in order of time."""
    frame_version: ClassVar[str] = ""
    """Change it when the same model outputs give other columns: frames are then made again."""
    frame_options: ClassVar[tuple[str, ...]] = ()
    """Options that decide the columns of `on_batch` and `on_segment`; all others decide rows only, which are made again
    without decoding."""
    in_sequence: ClassVar[bool] = False
    """True: `on_batch` gets each attempt at a segment from its first frame on, frame by frame in order, none twice: for
    tasks that remember the frame before. Such memory is of one (stream, segment, attempt), so that a result never
    depends on which segments went before or where a run was resumed."""

    carries: ClassVar[bool] = False
    """True: `on_live` makes something good of frames that the model was not run on (`FrameFlag.CARRIED`); a live run
    then has it run on fewer of them when there is too much to do, see `live.max_every`."""

    unit: ClassVar[str] = "largest difference"
    """What `differences` counts, for people."""
    same: ClassVar[float] = 1e-3
    """Two runs agree where no frame differs by more: the guard of `vpipe tune`."""
    near: ClassVar[float] = 1e-2
    """A model of lower precision may stand in where frames differ by no more on average: the guard of
    `vpipe models quantize`."""

    def __init__(self, options: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]) -> None:
        """Take the pipeline file's `[branches.postprocess.options]` and the model's output labels by output name."""
        self.options = dict(options)
        self.labels = dict(labels)

    @classmethod
    def load(cls, path: str) -> type[Task]:
        """Import a task class by `package.module:Class`.

        Raises:
            ConfigError: There is no such module or class, or it is not a task.
        """
        module, _, name = path.partition(":")
        try:
            loading.append(path)
            found = getattr(importlib.import_module(module), name)
        except VpipeError:
            raise
        except Exception as error:
            raise ConfigError(f"task {path}: cannot be imported: {type(error).__name__}: {error}") from error
        finally:
            loading.pop()
        if not (isinstance(found, type) and issubclass(found, Task)):
            raise ConfigError(f"task {path}: is not a subclass of vpipe.Task")
        return found

    @classmethod
    def differences(
        cls, reference: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Return how far each frame is from the same frame of a reference, in the product's own measure (`unit`).

        Where two runs are compared these are the columns that were kept, where two models are, their outputs. Frames
        that only one of them has are the caller's to find. Here: the largest difference of any number.

        Args:
            reference: Arrays by name, each (n, ...).
            found: The same of the other run or model.
        """
        worst = np.zeros(len(next(iter(reference.values()), ())), np.float64)
        for name, values in reference.items():
            if len(values) == len(worst) and len(worst) and np.issubdtype(values.dtype, np.number):
                apart = np.abs(np.asarray(values, np.float64) - np.asarray(found[name], np.float64))
                worst = np.maximum(worst, np.nan_to_num(apart).reshape(len(worst), -1).max(axis=1))
        return worst

    def on_batch(self, batch: Batch) -> Columns:
        """Return columns for a batch: arrays of length n that own their memory."""
        return {name: np.array(values) for name, values in batch.fields.items()}

    def on_segment(self, stream: StreamInfo, columns: Columns) -> Columns:
        """Return what is kept of a finished segment; `columns` is sorted by pts.

        Beside the columns of `on_batch` it has `pts`, `pts_s` (float64, seconds since the stream's first frame),
        `index` and `flags`; and, one value each, what the segment's packets weigh, whichever frames are taken:
        `_packets`, `_packet_bytes`, and of these `_keys` and `_key_bytes` in keyframes (0 where it is not known); and
        how coarsely they were coded: `_key_quantiser` of keyframes and `_other_quantiser`, each the mean of some of
        them on the codec's own scale, see `vpipe.media.quantiser` (NaN where none can be read).
        """
        return columns

    def on_stream(self, stream: StreamInfo, columns: Columns) -> dict[str, Any]:
        """Return the stream's row from all its segments' columns, joined in order of time.

        Plain JSON values under names of the product's own; the engine's names (`path`, `status`, `frames`, ...) stay
        the engine's.
        """
        return {}

    def on_live(self, stream: StreamInfo, batch: Batch) -> list[bytes]:
        """Return the messages for consecutive frames of one live stream and one epoch, in order.

        `batch.frames` has `epoch`, and `arrival_ns` of each frame's packet. Frames may be missing before the first and
        between any two (dropped ones), but none comes twice and none out of order. A new epoch starts everything anew:
        its times have nothing to do with those before, and the picture may have another size.
        """
        return []

    def end_live(self, stream_id: int) -> None:
        """Forget a live stream: it has left, and its number does not come again."""

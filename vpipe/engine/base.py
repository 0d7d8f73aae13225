"""What an engine is: batches go in by slot number, completions come out by slot number.

An engine is told the arrays of every ring slot once (`bind`) and from then on only numbers travel. It owns no frame
and copies none: a tensor slot is lent from `submit` until its completion has been taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""One slot's arrays by input or output name, each (capacity, ...)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """How a model is run."""

    batch: int = 1
    """Frames of a batch, the slots' capacity."""
    streams: int = 1
    """Batches computed at the same time."""
    threads: int = 1
    """Inference threads of all streams together."""
    requests: int = 2
    """Batches in flight; more than `streams` keeps every stream fed."""
    precision: str = "f32"
    """`f32`, `bf16`, `f16`, or `auto` for the device's own choice."""
    device: str = "CPU"
    """Any OpenVINO device string."""
    cache_dir: Path | None = None
    """Where compiled models are kept; None for the user's cache directory."""

    @property
    def chunk(self) -> int:
        """Frames of one request of OpenVINO, see `vpipe.engine.runner`."""
        return 1 if self.device == "CPU" else self.batch


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """A submitted batch is done."""

    tensor_slot: int
    result_slot: int
    error: str | None = None
    """Why the model failed on this batch; the result slot then holds nothing of use."""


class Engine(Protocol):
    """Runs one model."""

    @property
    def idle(self) -> int:
        """How many more batches `submit` takes now."""

    def bind(self, tensors: Sequence[Arrays], results: Sequence[Arrays]) -> None:
        """Learn the arrays of every tensor slot and result slot, in order of slot numbers.

        Raises:
            ModelError: An array does not fit the model's input or output of its name.
        """

    def submit(self, tensor_slot: int, result_slot: int, count: int, streams: Sequence[Hashable] | None = None) -> None:
        """Start the model on the first `count` frames of a tensor slot; needs `idle` above 0.

        Args:
            tensor_slot: Where the frames lie.
            result_slot: Where the results go; none of another batch in flight.
            count: How many frames.
            streams: For a recurrent model: for each frame, whose memory it goes on with. A key not seen before
                starts with zeros; None: all frames are of one stream.
        """

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something is complete that is watched."""

    def watch(self) -> None:
        """Have the descriptor tell of all batches in flight; call it before waiting for that.

        It is for those who wait for other things as well; `wait` is cheaper.
        """

    def wait(self, timeout_ms: float) -> None:
        """Wait until something is complete, at most so long; for those who have nothing else to wait for."""

    def completed(self) -> list[Completion]:
        """Return what has been completed since the last call, and clear the wake-up.

        Call it when the descriptor is readable or `wait` has returned, and now and then besides while batches are in
        flight.
        """

    def close(self) -> None:
        """Wait for what is in flight and let go of every slot."""

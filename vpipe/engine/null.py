"""The engine that computes nothing, so that a benchmark shows what everything else costs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from vpipe.engine.base import Arrays, Completion
from vpipe.wakeup import WakeUp


class NullEngine:
    """Completes every batch at once; all results are zeros."""

    def __init__(self, requests: int = 2) -> None:
        self._requests = requests
        self._done: list[Completion] = []
        self._results: Sequence[Arrays] = ()
        self._wake = WakeUp()

    @property
    def idle(self) -> int:
        """How many more batches `submit` takes now."""
        return self._requests - len(self._done)

    def bind(self, tensors: Sequence[Arrays], results: Sequence[Arrays]) -> None:
        """Learn the arrays of every result slot; the tensors are never looked at."""
        self._results = results

    def submit(self, tensor_slot: int, result_slot: int, count: int, streams: Sequence[Hashable] | None = None) -> None:
        """Write zeros for `count` frames."""
        for array in self._results[result_slot].values():
            array[:count] = 0
        if not self._done:
            self._wake.set()
        self._done.append(Completion(tensor_slot, result_slot))

    def fileno(self) -> int:
        """Return the descriptor that is readable while something is complete."""
        return self._wake.fileno()

    def watch(self) -> None:
        """Do nothing: the descriptor tells of everything."""

    def wait(self, timeout_ms: float) -> None:
        """Do nothing: every batch is complete."""

    def completed(self) -> list[Completion]:
        """Return what has been submitted since the last call."""
        if self._done:
            self._wake.clear()
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Give the descriptor back."""
        self._results = ()
        self._wake.close()

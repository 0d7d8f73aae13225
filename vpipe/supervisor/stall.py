"""The last resort against a run that waits for ever: a mistake of ours must end in an error, never in silence."""

from __future__ import annotations

from collections.abc import Mapping

from vpipe.metrics import Snapshot, State


class StallWatch:
    """Notices when every worker waits and nothing has moved for a long time."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._moved: object = None
        self._since = 0.0

    def look(self, now: float, workers: Mapping[str, Snapshot | None], ended: int) -> str | None:
        """Return what every worker is at when the run has stalled, else None.

        Args:
            now: CLOCK_MONOTONIC, seconds.
            workers: Counters by name; None for a worker that starts.
            ended: Files that have ended.
        """
        moved = (ended, [(each.frames, each.items) for each in workers.values() if each is not None])
        # Who works is not waiting for anyone, and is watched by its heartbeat.
        busy = any(each is None or each.state in (State.WORKING, State.STARTING) for each in workers.values())
        if busy or moved != self._moved:
            self._moved, self._since = moved, now
        if now - self._since <= self.limit_s:
            return None
        return ", ".join(f"{name} {each.state.name.lower()}" for name, each in workers.items() if each is not None)

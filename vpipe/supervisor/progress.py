"""The progress bar of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpipe.supervisor.work import WorkList

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """One line on standard error: files, frames, frames a second and the time left."""

    def __init__(self, *, enabled: bool, files: int) -> None:
        self._files = files
        self._bar: tqdm[None] | None = None
        if enabled:
            from tqdm import tqdm  # not at the top: most runs show nothing, and all would pay for it at their start

            self._bar = tqdm(total=0, unit="frame", disable=None, desc="starting", mininterval=0.2)

    def update(self, work: WorkList, frames: int) -> None:
        """Show that `frames` frames have been worked on so far."""
        if self._bar is None or self._bar.disable:
            return
        # Files that were not opened yet count by their size, as the opened ones turned out.
        guess = work.frames_planned * work.bytes_unplanned // work.bytes_planned if work.bytes_planned else 0
        self._bar.total = max(work.frames_planned + guess, frames)
        self._bar.n = frames
        failed = f", {work.failed} failed" if work.failed else ""
        self._bar.set_description_str(f"{work.ended}/{self._files} files{failed}", refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last line as it is."""
        if self._bar is not None:
            self._bar.close()

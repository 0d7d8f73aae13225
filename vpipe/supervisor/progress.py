"""The progress bar of a run."""

from __future__ import annotations

from tqdm import tqdm

from vpipe.supervisor.work import FileState, WorkList


class Progress:
    """One line on standard error: files, frames, frames a second and the time left."""

    def __init__(self, *, enabled: bool, files: int) -> None:
        self._files = files
        self._bar = tqdm(total=0, unit="frame", disable=None if enabled else True, desc="starting", mininterval=0.2)

    def update(self, work: WorkList, frames: int) -> None:
        """Show that `frames` frames have been worked on so far."""
        if self._bar.disable:
            return
        known = [file for file in work.files if file.segments]
        planned = sum(segment.frames for file in known for segment in file.segments.values())
        planned_bytes = sum(file.size_bytes for file in known)
        waiting_bytes = sum(file.size_bytes for file in work.files if not file.segments and not file.ended)
        # Files that were not opened yet count by their size, as the opened ones turned out.
        guess = planned * waiting_bytes // planned_bytes if planned_bytes else 0
        failed = sum(file.state is FileState.FAILED for file in work.files)
        self._bar.total = max(planned + guess, frames)
        self._bar.n = frames
        self._bar.set_description_str(
            f"{work.ended}/{self._files} files" + (f", {failed} failed" if failed else ""), refresh=False
        )
        self._bar.refresh()

    def close(self) -> None:
        """Leave the last line as it is."""
        self._bar.close()

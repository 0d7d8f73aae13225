"""`python -m vpipe_mask.server.assemble PARENT FORMATS JOURNAL...`: make the mask files of journals, remove these."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vpipe.child import bind_to_parent
from vpipe.errors import VpipeError
from vpipe_mask.code import MaskFrame
from vpipe_mask.formats import FORMATS, Format, Record
from vpipe_mask.outline import Outline, fill
from vpipe_mask.server.journal import SUFFIX, read_journal

MICROSECONDS = (1, 1_000_000)


def assemble(journal: Path, formats: list[str]) -> list[Path]:
    """Make the files of a journal beside it, under its name without the dot and the suffix; then remove the journal.

    Returns:
        The files; none where another process has the journal.

    Raises:
        VpipeError: A file cannot be made; the journal stays.
    """
    with open(journal, "rb") as locked:
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []
        if next(_frames(journal), None) is None:
            journal.unlink()
            return []
        name = journal.name.removeprefix(".").removesuffix(SUFFIX)
        made = []
        for each in formats:
            kind = FORMATS[each]
            path = journal.with_name(name + kind.suffix)
            kind.write(path, (_record(kind, frame) for frame in _frames(journal)))
            made.append(path)
        journal.unlink()
        return made


def _frames(journal: Path) -> Iterator[MaskFrame]:
    """Yield what a file can hold: times from 0 on, each later than the one before, in whole milliseconds."""
    last_ms = -1
    for frame in read_journal(journal):
        now_ms = _milliseconds(frame)
        if now_ms > last_ms:
            last_ms = now_ms
            yield frame


def _milliseconds(frame: MaskFrame) -> int:
    return frame.pts_us // 1000


def _record(kind: Format, frame: MaskFrame) -> Record:
    outline = frame.outline if frame.applied else Outline(frame.outline.width, frame.outline.height, ())
    return Record(frame.pts_us, MICROSECONDS, _milliseconds(frame), kind.encode(fill(outline), outline))


def main() -> int:
    """Run as a process of the feed server; exit code 1 where a file could not be made."""
    parent, formats, *journals = sys.argv[1:]
    bind_to_parent(int(parent))
    os.nice(10)  # the feed goes first
    code = 0
    for journal in journals:
        try:
            assemble(Path(journal), formats.split(","))
        except (VpipeError, OSError) as error:
            print(f"recording {journal}: {error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())

"""A recorded feed before it is a mask file: messages one after another, each after its length (u32, little-endian).

Whoever writes a journal, or makes files of it, holds a lock on it that ends with the process; so a journal without a
lock is one that someone left. Its last message may be cut short, which harms no other.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from vpipe_mask.code import CodeError, Decoder, MaskFrame
from vpipe_mask.server.feed import Mask
from vpipe_mask.wire import MAX_BYTES

SUFFIX = ".feed"
_LENGTH = struct.Struct("<I")


class Journal:
    """A journal that is being written; it begins with a key.

    Args:
        path: Of a file that does not exist yet.
        first: The first mask that is kept.
    """

    def __init__(self, path: Path, first: Mask) -> None:
        self.path = path
        self.epoch = first.epoch
        self.first_us = first.pts_us
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        if first.base is not None:
            self.write(first.base)

    def write(self, mask: Mask) -> None:
        """Append a message; it survives this process from here on."""
        os.write(self._file, _LENGTH.pack(len(mask.data)) + mask.data)

    def close(self) -> None:
        """End the journal; it may now be made into files."""
        os.close(self._file)


def left_behind(directory: Path) -> list[Path]:
    """Return the journals in a directory, oldest first; some may have a writer still."""
    return sorted(directory.glob(f".*{SUFFIX}"), key=lambda path: path.stat().st_mtime)


def read_journal(path: Path) -> Iterator[MaskFrame]:
    """Yield the masks of a journal, up to its end or to where it is cut short."""
    decoder = Decoder()
    with open(path, "rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            if length > MAX_BYTES or len(data := file.read(length)) < length:
                return
            try:
                yield decoder.decode(data)
            except CodeError:  # a disk that was full for a moment took a key with it
                continue

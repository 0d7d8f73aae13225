"""A descriptor by which one thread wakes another that polls."""

from __future__ import annotations

import contextlib
import os
import sys


class WakeUp:
    """A descriptor that any thread makes readable and one loop clears."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._read

    def set(self) -> None:
        """Make the descriptor readable."""
        with contextlib.suppress(BlockingIOError):  # a full pipe is readable already
            os.write(self._write, b"\x01\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Make the descriptor unreadable until the next `set`."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        """Give the descriptor back."""
        for descriptor in {self._read, self._write} - {-1}:
            os.close(descriptor)
        self._read = self._write = -1

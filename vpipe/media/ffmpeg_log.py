"""What FFmpeg says: never printed, and heard on the thread that listens while it listens."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TypeAlias

import av.logging

Message: TypeAlias = tuple[int, str, str]
"""Its level (lower is graver), who says it, its text."""

logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False
av.logging.set_skip_repeated(False)  # the same damage twice is twice as much
av.logging.set_libav_level(-8)  # AV_LOG_QUIET, for FFmpeg's own way of logging
av.logging.restore_default_callback()

_listeners = 0
_lock = threading.Lock()


@contextlib.contextmanager
def listening() -> Iterator[list[Message]]:
    """Collect what FFmpeg says on this thread while the block runs; other threads may listen at the same time.

    What is said on a thread that does not listen is dropped. While nobody listens FFmpeg's own way of logging holds,
    made quiet: PyAV's rest (`set_level(None)`) fails on a message that is on its way just then, and prints so (18.1).
    """
    global _listeners
    with _lock:
        if not _listeners:
            av.logging.set_level(av.logging.INFO)
        _listeners += 1
    try:
        with av.logging.Capture() as log:
            yield log
    finally:
        with _lock:
            _listeners -= 1
            if not _listeners:
                av.logging.restore_default_callback()


def errors(log: list[Message]) -> list[str]:
    """Return the texts of what is an error."""
    return [text.strip() for level, _, text in log if level <= av.logging.ERROR]


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect what is an error, there when the block is left: some damage FFmpeg mends and only mentions."""
    said: list[str] = []
    with listening() as log:
        yield said
    said += errors(log)

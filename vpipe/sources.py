"""What a user names, turned into a list of inputs.

Nothing is opened here. Whatever cannot be used is kept in the list, so that it gets a row that says why.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from vpipe.errors import MediaError, SourceError
from vpipe.media.sources import RULES, kind_of

_MP4 = {".3gp", ".m4v", ".mov", ".mp4"}
_MPEG = {".m2ts", ".mpeg", ".mpg", ".mts", ".ts", ".vob"}
_RAW = {".h264", ".h265", ".hevc", ".ivf", ".obu", ".y4m"}
_OTHER = {".asf", ".avi", ".flv", ".mj2", ".mkv", ".mxf", ".nut", ".ogv", ".webm", ".wmv"}
SUFFIXES = frozenset(_MP4 | _MPEG | _RAW | _OTHER)
"""Files that a directory is searched for."""

STANDARD_INPUT = "-"


def is_url(source: str) -> bool:
    """Return whether a source is a URL (a scheme and `://`) and not a path."""
    scheme, found, _ = source.partition("://")
    return bool(found) and scheme.isalnum()


def is_live(source: str) -> bool:
    """Return whether a source has no end that one could wait for: a stream's URL, an HLS playlist, a camera."""
    try:
        kind = kind_of(source, live=True)
    except MediaError:
        return False  # whoever opens it will say what is wrong with it
    return RULES[kind].live or (kind == "http" and urlsplit(source).path.lower().endswith(".m3u8"))


def resolve_sources(sources: Iterable[str | os.PathLike[str]]) -> list[tuple[str, int]]:
    """Turn files, directories, globs, URLs and `-` (a list on standard input) into inputs.

    Args:
        sources: As the user gave them. A directory is searched, with all below it, for files with a video suffix.

    Returns:
        (path or URL, size in bytes or 0) of each input once, in order; file names that are not UTF-8 are
        surrogate-escaped.

    Raises:
        SourceError: There is not one input: no glob matches, and no directory holds a video.
    """
    named = [os.fsdecode(source) for source in sources]
    found: dict[str, int] = {}
    hopeful = False
    for source in named:
        for path, matched in _lines() if source == STANDARD_INPUT else _expand(source):
            found.setdefault(path, _size(path))
            hopeful |= matched
    if not hopeful:
        raise SourceError(f"nothing to do: {', '.join(named) or 'no source given'}: names no file")
    return list(found.items())


def _lines() -> Iterator[tuple[str, bool]]:
    for line in sys.stdin.buffer:
        name = os.fsdecode(line.rstrip(b"\r\n"))
        if name:
            yield from _expand(name)


def _expand(source: str) -> Iterator[tuple[str, bool]]:
    """Yield what one source names, and False where it names nothing: then its row says so."""
    if is_url(source):
        yield source, True
        return
    magic = glob.has_magic(source) and not os.path.lexists(source)
    matches = sorted(glob.glob(source, recursive=True)) if magic else [source]
    for match in matches:
        if os.path.isdir(match):
            yield from _search(match)
        else:
            yield match, True
    if not matches:
        yield source, False


def _search(directory: str) -> Iterator[tuple[str, bool]]:
    """Yield the videos below a directory; the directory itself where it holds none."""
    empty = True
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                empty = False
                yield os.path.join(folder, name), True
    if empty:
        yield directory, False


def _size(path: str) -> int:
    try:
        return 0 if is_url(path) else os.stat(path).st_size
    except OSError:
        return 0

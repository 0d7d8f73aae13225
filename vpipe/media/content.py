"""What a file is before anyone decodes it: whether it may be opened, and the key of its content."""

from __future__ import annotations

import hashlib
import os
import stat

from vpipe.errors import MediaError
from vpipe.media.sources import SYNTHETIC, kind_of

WHOLE_BYTES = 16 << 20
"""Files up to this size are hashed whole."""
PIECE_BYTES = 128 << 10
"""It is read in pieces that stay in the cache."""
BLOCKS = 64
BLOCK_BYTES = 64 << 10
KEY_DIGITS = 32
"""Of the SHA-256 of the content; processors have instructions for it, so it takes half the time of BLAKE2."""

_KINDS = (
    (stat.S_ISDIR, "directory", "is a directory that holds no video file"),
    (stat.S_ISFIFO, "special", "is a pipe, not a file"),
    (stat.S_ISSOCK, "special", "is a socket, not a file"),
    (stat.S_ISCHR, "special", "is a device, not a file"),
    (stat.S_ISBLK, "special", "is a device, not a file"),
)


def shown(path: str) -> str:
    """Return a path as it can be printed anywhere: on one line, in valid UTF-8."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _check(path: str, found: os.stat_result) -> None:
    for is_kind, kind, words in _KINDS:
        if is_kind(found.st_mode):
            raise MediaError(kind, f"{shown(path)} {words}")
    if found.st_size == 0:
        raise MediaError("empty", f"{shown(path)} is empty (0 bytes)")


def open_file(path: str) -> int:
    """Open a regular file for reading and return its descriptor; anything else is never opened.

    Raises:
        MediaError: It is missing, unreadable, empty, or not a regular file.
    """
    try:
        _check(path, os.stat(path))
        # Not blocking: should a pipe have taken the file's place since, the open returns and is refused below.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        broken = os.path.islink(path)
        words = f"is a link to {shown(os.readlink(path))}, which does not exist" if broken else "does not exist"
        raise MediaError("missing", f"{shown(path)} {words}") from None
    except OSError as error:
        raise MediaError("unreadable", f"{shown(path)} cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL in the name
        raise MediaError("missing", f"{shown(path)} is not a file name") from None
    try:
        _check(path, os.fstat(descriptor))
    except MediaError:
        os.close(descriptor)
        raise
    return descriptor


def content_key(path: str) -> str:
    """Return the key of a source's content, 32 hexadecimal digits.

    A file of up to 16 MiB is hashed whole; a larger one by its size, its modification time and 64 evenly spread
    blocks of 64 KiB, the first and the last included. A URL's key is that of its text.

    Raises:
        MediaError: The file cannot be used.
    """
    if path.startswith(SYNTHETIC) or kind_of(path) != "file":
        return hashlib.sha256(b"url\0" + path.encode("utf-8", "surrogateescape")).hexdigest()[:KEY_DIGITS]
    descriptor = open_file(path)
    try:
        return file_key(descriptor, path)
    finally:
        os.close(descriptor)


def file_key(descriptor: int, path: str) -> str:
    """Return `content_key` of an open file; its read position stays as it is."""
    found = os.fstat(descriptor)
    digest = hashlib.sha256()
    try:
        if found.st_size <= WHOLE_BYTES:
            at = 0
            piece = memoryview(bytearray(PIECE_BYTES))
            while count := os.preadv(descriptor, [piece], at):
                digest.update(piece[:count])
                at += count
        else:
            digest.update(b"%d %d" % (found.st_size, found.st_mtime_ns))
            for block in range(BLOCKS):
                at = block * (found.st_size - BLOCK_BYTES) // (BLOCKS - 1)
                digest.update(os.pread(descriptor, BLOCK_BYTES, at))
    except OSError as error:
        raise MediaError("unreadable", f"{shown(path)} cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:KEY_DIGITS]

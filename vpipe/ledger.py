"""A run's output directory as a ledger: what is done, so that the same command can go on where it stopped.

    OUT/ledger.sqlite   segments  (work key, number) -> columns      committed by the postprocess worker
                        rows      (work key, row key) -> row         committed by the supervisor
                        inputs    position -> path, work key, status: the inputs of the latest run, in its order
    OUT/ledger.lock     held by the one run that may write

A work key names what was computed per frame: the content and every setting that decides a frame's values. A row key
names how frames became a row. So other pooling options give another row from the columns that are there already, and
another model gives another work key and touches nothing else. Every commit is one transaction, and repeating one is
harmless.

Durability. The database is in WAL mode with synchronous=NORMAL. After kill -9 of any process at any moment nothing
committed is lost: the log was written to the kernel, and the next reader finds it. After a power cut the database is
still whole (the log is synced before each checkpoint), but the last commits may be gone; then those segments are
decoded once more, which costs seconds. FULL would buy these seconds with one fsync a segment, in every run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vpipe.database import FORMAT, connect, damaged, explain, forget
from vpipe.errors import ResourceError, RunError
from vpipe.lock import take_lock
from vpipe.plain import canonical, plain
from vpipe.task import Columns

_CHECKSUM, _HEAD = struct.Struct("<I"), struct.Struct("<I")
"""Before packed columns: CRC-32 of what follows; then the length of their description."""


def work_key(content_key: str, settings: Mapping[str, Any]) -> str:
    """Return the name of the per-frame work on one content.

    Args:
        content_key: Of the file.
        settings: All that decides a frame's values, as plain JSON values: model digests, view, sample.
    """
    return _digest(["work", FORMAT, content_key, dict(settings)])


def row_key(task: str, options: Mapping[str, Any], version: str) -> str:
    """Return the name of one way to turn columns into a row.

    Args:
        task: `package.module:Class`.
        options: The task's options.
        version: Of the task's package: another version may pool differently.
    """
    return _digest(["row", task, dict(options), version])


def _digest(value: Any) -> str:
    return hashlib.blake2b(canonical(value), digest_size=16).hexdigest()


class Input(NamedTuple):
    """One input of the latest run."""

    position: int
    path: str
    """As the user named it; bytes that are not UTF-8 are surrogate-escaped."""
    key: str | None
    """Work key; None where the file could not even be opened."""
    status: str
    error_kind: str | None
    error_message: str | None


class Ledger:
    """The ledger of one output directory; any number of processes may have it open, one run may hold its lock."""

    def __init__(self, out: Path, db: sqlite3.Connection, lock: int | None) -> None:
        """Wrap an open database; use `Ledger.open`."""
        self.out = out
        self._db = db
        self._lock = lock

    @classmethod
    def open(cls, out: Path, *, fresh: bool = False) -> Ledger:
        """Open or create the ledger in the directory `out`.

        Args:
            out: Created where missing.
            fresh: Forget all that is done: take the run's lock and start with an empty ledger.

        Raises:
            ResourceError: The directory cannot be made or written, the file is not a ledger or is damaged, or (fresh)
                another run holds the lock.
        """
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{out}: cannot make the output directory: {error.strerror}; choose another with -o"
            ) from None
        if not os.access(out, os.W_OK | os.X_OK):
            raise ResourceError(
                f"{out}: the output directory is not writable by user {os.geteuid()}; "
                f"change its permissions or choose another with -o"
            )
        lock = take_lock(out) if fresh else None
        try:
            if fresh:
                forget(out)
            return cls(out, connect(out), lock)
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and let go of the lock; closing twice is harmless."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lock(self) -> None:
        """Take the run's exclusive lock, kept until `close` or the process's end; for the supervisor only.

        Raises:
            ResourceError: Another run holds it; its process id is in the message.
        """
        if self._lock is None:
            self._lock = take_lock(self.out)

    # Per-frame work.

    def segments(self, key: str) -> set[int]:
        """Return which segments of the work are committed."""
        with self._errors():
            return {number for (number,) in self._db.execute("SELECT number FROM segments WHERE work = ?", (key,))}

    def commit_segment(self, key: str, number: int, columns: Columns) -> None:
        """Commit what is kept of one segment, all or nothing; a repeat replaces it.

        Raises:
            ResourceError: The disk is full or broken; nothing committed before is lost.
            RunError: A column holds Python objects.
        """
        blob = _pack(columns)
        with self._errors():
            self._db.execute("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", (key, number, blob))

    def columns(self, key: str, numbers: Collection[int]) -> Columns:
        """Return the columns of these segments joined along axis 0, in the order of the segments' numbers.

        A name that a segment lacks (one in which no frame was taken, for example) is joined from those that have it.

        Raises:
            KeyError: A segment is not committed.
        """
        return join_columns(self._segment(key, number) for number in sorted(numbers))

    def _segment(self, key: str, number: int) -> Columns:
        with self._errors():
            query = "SELECT columns FROM segments WHERE work = ? AND number = ?"
            found = self._db.execute(query, (key, number)).fetchone()
        if found is None:
            raise KeyError(f"segment {number} of {key} is not in the ledger")
        try:
            return _unpack(found[0])
        except ValueError as error:
            raise damaged(self.out, str(error)) from None

    # Rows.

    def commit_row(self, key: str, row_key: str, row: Mapping[str, Any]) -> None:
        """Commit a stream's row (plain values; NaN becomes null); a repeat replaces it."""
        text = json.dumps(plain(row))
        with self._errors():
            self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (key, row_key, text))

    def row(self, key: str, row_key: str) -> dict[str, Any] | None:
        """Return a committed row, or None."""
        with self._errors():
            query = "SELECT row FROM rows WHERE work = ? AND row_key = ?"
            found = self._db.execute(query, (key, row_key)).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    # Inputs of the latest run.

    def set_input(
        self,
        position: int,
        path: str,
        key: str | None,
        status: str,
        error_kind: str | None = None,
        error_message: str | None = None,
    ) -> None:
        """Note what is known of the input at this place in the run's order; a repeat replaces it."""
        # SQLite's TEXT must be UTF-8 and cannot hold surrogates: paths are stored as their bytes, messages (which
        # may quote a path) with the same escape.
        message = None if error_message is None else error_message.encode("utf-8", "surrogateescape")
        values = (position, os.fsencode(path), key, status, error_kind, message)
        with self._errors():
            self._db.execute("INSERT OR REPLACE INTO inputs VALUES (?, ?, ?, ?, ?, ?)", values)

    def inputs(self) -> list[Input]:
        """Return the inputs in the run's order."""
        with self._errors():
            rows = self._db.execute("SELECT * FROM inputs ORDER BY position").fetchall()
        return [
            Input(at, os.fsdecode(path), key, status, kind, _text(message))
            for at, path, key, status, kind, message in rows
        ]

    def clear_inputs(self) -> None:
        """Forget the inputs of earlier runs (not their work): a run calls this before it notes its own."""
        with self._errors():
            self._db.execute("DELETE FROM inputs")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(self.out, error) from error


def _text(message: bytes | str | None) -> str | None:
    return message.decode("utf-8", "surrogateescape") if isinstance(message, bytes) else message


def join_columns(segments: Iterable[Columns]) -> Columns:
    """Join the columns of segments along axis 0; a name that a segment lacks is joined from those that have it."""
    parts: dict[str, list[np.ndarray[Any, Any]]] = {}
    for columns in segments:
        for name, values in columns.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _pack(columns: Columns) -> bytes:
    """Return columns as bytes: what they are in JSON, then their values one after the other, under a checksum of all.

    A zip of `.npy` members, which says the same, takes 0.1 ms to write and again to read for each of forty columns.
    """
    told = []
    for name, values in columns.items():
        if values.dtype.hasobject:
            raise RunError(f"column '{name}' holds Python objects, which cannot be kept: drop it in Task.on_segment")
        if values.dtype.fields is not None:
            raise RunError(f"column '{name}' has named fields ({values.dtype}): make a column of each")
        if values.ndim == 0:
            raise RunError(f"column '{name}' is a single value: columns are joined along axis 0, give it shape (1,)")
        told.append([name, values.dtype.str, values.shape])
    head = json.dumps(told).encode()
    parts = [_HEAD.pack(len(head)), head, *(np.ascontiguousarray(values).tobytes() for values in columns.values())]
    packed = b"".join(parts)
    return _CHECKSUM.pack(zlib.crc32(packed)) + packed


def _unpack(blob: bytes) -> Columns:
    """Return what was packed, read-only; raises ValueError where it is damaged."""
    if len(blob) < _CHECKSUM.size + _HEAD.size or _CHECKSUM.unpack_from(blob)[0] != zlib.crc32(blob[_CHECKSUM.size :]):
        raise ValueError("a segment's columns do not match their checksum")
    start = _CHECKSUM.size + _HEAD.size
    at = start + _HEAD.unpack_from(blob, _CHECKSUM.size)[0]
    columns: Columns = {}
    for name, code, shape in json.loads(blob[start:at]):
        dtype = np.dtype(code)
        count = math.prod(shape)
        columns[name] = np.frombuffer(blob, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    return columns

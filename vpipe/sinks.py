"""Where results go: JSON Lines for rows, Parquet for per-frame columns, and what products write of their own.

A file is complete or absent.
"""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from vpipe.errors import ConfigError, ResourceError, RunError, VpipeError
from vpipe.plain import path_text, to_line
from vpipe.task import Columns


class Sink:
    """Base class of a product's own sink: files of its own, written as each input ends.

    It runs in the process that started the run, while other inputs are still worked on; what costs time belongs into
    the task, whose columns it gets.
    """

    def __init__(self, options: Mapping[str, Any], out: Path) -> None:
        """Take the pipeline file's `[sinks.options]` and the run's output directory.

        Raises:
            ConfigError: An option is unknown or wrong.
        """
        self.options = dict(options)
        self.out = out

    @classmethod
    def load(cls, path: str) -> type[Sink]:
        """Import a sink class by `package.module:Class`.

        Raises:
            ConfigError: There is no such module or class, or it is not a sink.
        """
        module, _, name = path.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except VpipeError:
            raise
        except Exception as error:
            raise ConfigError(f"sink {path}: cannot be imported: {type(error).__name__}: {error}") from error
        if not (isinstance(found, type) and issubclass(found, Sink)):
            raise ConfigError(f"sink {path}: is not a subclass of vpipe.sinks.Sink")
        return found

    def write(self, row: Mapping[str, Any], name: str, columns: Callable[[str], Columns | None]) -> dict[str, Any]:
        """Write what one finished input gives; called again for the same one when a later run finds it done already.

        Args:
            row: The input's row.
            name: For its files: the input's own without its suffix, made different from every other input's.
            columns: Returns the columns of a branch, by its name.

        Returns:
            What it adds to the row, for example the names of its files.

        Raises:
            MediaError: This input cannot be written; it counts as failed, the others go on.
            ResourceError: Nothing can be written; ends the run.
        """
        return {}


GROUP_ROWS = 1 << 16
"""Streams are gathered into row groups of about so many rows, never split: a file of many tiny groups is slow to read,
and one group for all of an archive would have to be held in memory."""


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that is complete or absent: bytes go to a temporary name beside it, which is renamed at the end.

    The temporary name is always the same (`.NAME.part`), so what a killed run left is overwritten by the next one and
    needs no sweeping; the run's lock keeps two writers apart.

    Raises:
        ResourceError: The file cannot be written; an older file of that name is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            # Before the rename: otherwise a power cut may leave the new name with no content.
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_directory(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _explain(path, error) from error
        raise


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, error: OSError) -> ResourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = shutil.disk_usage(path.parent).free
        return ResourceError(
            f"disk full ({error.strerror}): {free} bytes free at {path.parent}; make room (or raise the quota or file "
            f"size limit), then run the same command again: finished work is kept"
        )
    return ResourceError(f"{path}: cannot be written: {error.strerror or error}; is {path.parent} writable?")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, UTF-8; NaN becomes null.

    Raises:
        ResourceError: The file cannot be written.
    """
    with atomic_file(path) as file:
        for row in rows:
            file.write(to_line(row) + b"\n")


def write_parquet(path: Path, streams: Iterable[tuple[Mapping[str, Any], Columns]]) -> None:
    r"""Write the per-frame columns of many streams as one Parquet file.

    The columns are `path`, `key`, then `pts`, `pts_s` (seconds since the stream's first frame) and every other 1-D
    column as long as `pts`, except those whose name starts with `_` (the engine's own). Bytes of a path that are not
    UTF-8 are spelled `\xNN`; `key` joins such a file to its row all the same.

    Args:
        path: Of the file.
        streams: For each stream its row (`path` and `key` are used) and its columns; taken one by one, so that no more
            than a row group of about `GROUP_ROWS` frames is in memory.

    Raises:
        ResourceError: The file cannot be written.
        RunError: Streams do not have the same columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_file(path) as file:
        writer = None
        waiting: list[Any] = []
        try:
            for row, columns in streams:
                table = _table(row, columns)
                if table is None:
                    continue
                if writer is None:
                    writer = pq.ParquetWriter(file, table.schema, compression="zstd")
                waiting.append(_fit(table, writer.schema, str(row["path"])))
                if sum(part.num_rows for part in waiting) >= GROUP_ROWS:
                    writer.write_table(pa.concat_tables(waiting), row_group_size=1 << 30)
                    waiting.clear()
            if writer is None:
                writer = pq.ParquetWriter(file, _schema({}), compression="zstd")
            if waiting:
                writer.write_table(pa.concat_tables(waiting), row_group_size=1 << 30)
        finally:
            if writer is not None:
                writer.close()


def _schema(types: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    text = pa.string()
    first = {"path": text, "key": text, "pts": pa.int64(), "pts_s": pa.float64()}
    return pa.schema(list({**first, **types}.items()))


def _table(row: Mapping[str, Any], columns: Columns) -> Any:
    """Return a stream as a table; None where it has no frames."""
    import pyarrow as pa

    count = len(columns["pts"])
    if count == 0:
        return None
    arrays = {
        name: pa.array(np.ascontiguousarray(values))
        for name, values in columns.items()
        if values.ndim == 1 and len(values) == count and not name.startswith("_")
    }
    arrays["path"] = pa.repeat(path_text(str(row["path"])), count)
    arrays["key"] = pa.repeat(pa.scalar(row.get("key"), pa.string()), count)
    arrays.setdefault("pts_s", pa.nulls(count, pa.float64()))
    schema = _schema({name: values.type for name, values in arrays.items()})
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _fit(table: Any, schema: Any, path: str) -> Any:
    """Bring a stream's table to the file's schema, which the first stream set."""
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    if set(table.schema.names) == set(schema.names):
        with suppress(pa.ArrowInvalid):
            return table.select(schema.names).cast(schema)
    ours, theirs = ({f"{field.name} {field.type}" for field in each} for each in (table.schema, schema))
    odd = ", ".join(sorted(ours ^ theirs))
    raise RunError(f"{path}: its columns differ from the other streams' ({odd}): a task must give all streams the same")

"""The ledger's database file: how it is opened, and what its errors mean to the person who runs vpipe."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from vpipe.errors import ResourceError, RunError

FORMAT = 2
"""Of the database, and part of every work key: raise it when stored columns change their meaning."""

DATABASE = "ledger.sqlite"

_APPLICATION_ID = 0x76706970  # "vpip"
_BUSY_S = 60.0

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS segments (
    work TEXT NOT NULL, number INTEGER NOT NULL, columns BLOB NOT NULL, PRIMARY KEY (work, number));
CREATE TABLE IF NOT EXISTS rows (
    work TEXT NOT NULL, row_key TEXT NOT NULL, row TEXT NOT NULL, PRIMARY KEY (work, row_key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inputs (
    position INTEGER PRIMARY KEY, path BLOB NOT NULL, work TEXT, status TEXT NOT NULL,
    error_kind TEXT, error_message TEXT);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""

_FULL_PRIMARY = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_CORRUPT_PRIMARY = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def connect(out: Path) -> sqlite3.Connection:
    """Open the database in the directory `out`, making it where there is none.

    Raises:
        ResourceError: The file cannot be opened or written, is damaged, is something else, or is of another format.
    """
    path = out / DATABASE
    db = None
    try:
        # Autocommit: each statement is its own transaction. One thread at a time, not always the same one.
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION_ID:
            raise ResourceError(f"{path}: a database, but not a vpipe ledger; choose another output directory with -o")
        if tables and version != FORMAT:
            raise ResourceError(
                f"{path}: written by another vpipe (ledger format {version}, this one has {FORMAT}); "
                f"use --fresh to do the work again, or choose another output directory with -o"
            )
        # Where the file system has no shared memory for a WAL (some network ones), SQLite stays with its rollback
        # journal, and that needs FULL to be safe.
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
        if not tables:
            db.executescript(_SCHEMA)
    except BaseException as error:
        if db is not None:
            db.close()
        if isinstance(error, sqlite3.Error):
            raise explain(out, error) from None
        raise
    return db


def forget(out: Path) -> None:
    """Remove the database, damaged or of another format as it may be.

    Raises:
        ResourceError: The file is somebody else's database.
    """
    path = out / DATABASE
    if path.exists():
        try:
            connect(out).close()  # refuses what is whole and not ours; damage and other formats may go
        except ResourceError as error:
            if "not a vpipe ledger" in str(error):
                raise
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(DATABASE + suffix).unlink(missing_ok=True)


def damaged(out: Path, detail: str) -> ResourceError:
    """Return the error for a ledger that cannot be read."""
    return ResourceError(
        f"{out / DATABASE}: damaged ({detail}); use --fresh to do the work again, or restore the file from a backup"
    )


def explain(out: Path, error: sqlite3.Error) -> ResourceError | RunError:
    """Say what a database error means to the person who runs vpipe."""
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if primary in _CORRUPT_PRIMARY:
        return damaged(out, str(error))
    if primary in _FULL_PRIMARY:
        free = shutil.disk_usage(out).free
        # SQLite says FULL for ENOSPC only; quotas and file size limits come as I/O errors.
        what = "disk full" if primary == sqlite3.SQLITE_FULL else f"cannot write ({error})"
        return ResourceError(
            f"{what}: {free} bytes free at {out}; make room (or raise the quota or file size limit), then run the same "
            f"command again: finished work is kept"
        )
    if primary == sqlite3.SQLITE_CANTOPEN or primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ResourceError(f"{out / DATABASE}: {error}; check the permissions of the file and of {out}")
    if primary == sqlite3.SQLITE_BUSY:
        return ResourceError(f"{out / DATABASE}: locked by another program for {_BUSY_S:g} s; close what has it open")
    return RunError(f"{out / DATABASE}: {error}")

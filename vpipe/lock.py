"""The run's lock on an output directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vpipe.errors import ResourceError

LOCK = "ledger.lock"


def take_lock(out: Path) -> int:
    """Return a descriptor that holds the lock; flock ends with the process, however that dies."""
    try:
        # Not inheritable, as all of Python's descriptors: a worker that outlives its supervisor holds no lock.
        descriptor = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ResourceError(f"{out / LOCK}: cannot be opened: {error.strerror}; is {out} writable?") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ResourceError(
            f"{out}: another run (process {holder}) is writing here; wait for it, stop it, or choose another -o"
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise ResourceError(f"{out}: its file system has no locks ({error.strerror}); choose another -o") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor

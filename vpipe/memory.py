"""Anonymous shared memory, and whether there is enough of it.

On Linux the memory is a memfd: it has no name, so nothing can be left behind by a SIGKILL, and it does not count
against the size of /dev/shm. Elsewhere it is a temporary file that is unlinked before anyone else can open it,
which is as leak-proof. Either way it is one descriptor, handed to the processes that share it.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vpipe.errors import ResourceError

MIB = 1 << 20


def create_memory(name: str, size: int) -> int:
    """Return a descriptor (close-on-exec) of `size` bytes of zeroed shared memory.

    Pages are taken from the machine when they are first touched. Where the system can, the size is sealed, so that
    no process can shrink the memory under another.

    Args:
        name: For people, in /proc/PID/maps.
        size: Bytes.

    Raises:
        ResourceError: The system refuses so much memory.
    """
    try:
        if not hasattr(os, "memfd_create"):
            return _create_unlinked(size)
        fd = os.memfd_create(f"vpipe-{name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            _seal(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd
    except (OSError, OverflowError) as error:
        raise _shortage(name, size, error) from None


def map_memory(fd: int, size: int, name: str) -> mmap.mmap:
    """Map memory made by `create_memory`; it stays mapped for as long as anything refers to it.

    Raises:
        ResourceError: This process may not map so much.
    """
    try:
        return mmap.mmap(fd, size)
    except (OSError, ValueError, OverflowError) as error:
        raise _shortage(name, size, error) from None


def available_bytes() -> int:
    """Return how many bytes this process and its children may still take, by the machine and by its cgroups."""
    rooms = [_machine_available(Path("/proc/meminfo"))]
    rooms += _cgroup_rooms(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(0, min(rooms))


def check_fits(needed: int, what: str) -> None:
    """Check that `needed` bytes of shared memory are free before anything is started.

    Raises:
        ResourceError: They are not; the message has the numbers and the knobs to turn.
    """
    free = available_bytes()
    if needed > free:
        raise ResourceError(
            f"{what} needs {-(-needed // MIB)} MiB of shared memory, {free // MIB} MiB are free;"
            " lower branches[..].batch.slots or decode.workers"
        )


def _create_unlinked(size: int) -> int:
    import tempfile  # not at the top: every worker would pay for it, and none needs it on Linux

    with tempfile.TemporaryFile(prefix="vpipe-") as file:
        fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _seal(fd: int) -> None:
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def _shortage(name: str, size: int, error: Exception) -> ResourceError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ResourceError(
        f"{name}: {-(-size // MIB)} MiB of shared memory cannot be had ({reason}), {available_bytes() // MIB} MiB"
        " are free; lower branches[..].batch.slots or decode.workers"
    )


def _machine_available(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_rooms(root: Path, membership: Path) -> Iterator[int]:
    """Yield what each memory cgroup from ours up to the root has left, in bytes; v2 and v1.

    Page cache that can be dropped counts as free, as it does for the kernel when the limit is near.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage, cache = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage, cache = (
                root / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        # In a container the path may be that of the host, which is not there: then the top is our own group.
        for group in {top / part for part in _with_parents(path)}:
            try:
                room = int((group / limit).read_text()) - int((group / usage).read_text())
            except (OSError, ValueError):  # absent, or the word "max"
                continue
            yield room + _stat(group / "memory.stat", cache)


def _with_parents(path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts) + 1):
        yield "/".join(parts[:count])


def _stat(path: Path, key: str) -> int:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass
    return 0

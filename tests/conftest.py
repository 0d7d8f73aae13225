"""What all tests share: a private cache, the samples, and a look at what the tests leave behind."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("vpipe", deadline=None, print_blob=True)
hypothesis.settings.load_profile("vpipe")

MARK = "VPIPE_TEST_SESSION"
"""In the environment of everything that this session starts, so that others' processes are not taken for ours."""
GONE_BY_S = 10.0
"""By then, after the last test of a module, its processes must have ended."""


@pytest.fixture(scope="session", autouse=True)
def private_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Mark the session's processes, and keep compiled models out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, uuid.uuid4().hex)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_behind(private_session: None) -> Iterator[None]:
    """Fail where the tests of a module leave a process of vpipe, or something of ours in /dev/shm."""
    before = shared_memory()
    yield
    deadline = time.monotonic() + GONE_BY_S
    while (left := remaining_processes()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in left:  # told once, by the module that left it
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    assert not left, f"processes of vpipe remain: {left}"
    assert not shared_memory() - before, "shared memory remains"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample clips."""
    return Path(__file__).resolve().parents[1] / "samples"


def remaining_processes() -> dict[int, str]:
    """Command lines of this session's living vpipe processes, by their number."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if (
                int(entry.name) != os.getpid()
                and "vpipe" in line
                and mark in (entry / "environ").read_bytes().split(b"\0")
            ):
                found[int(entry.name)] = line
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def shared_memory() -> set[str]:
    """Names in /dev/shm that could be ours."""
    try:
        return {name for name in os.listdir("/dev/shm") if name.startswith(("vpipe", "psm_", "sem.vpipe"))}
    except OSError:  # no such folder on this system
        return set()

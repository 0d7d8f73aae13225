"""Workers are forked off a server: what they are given, how their end is told, what becomes of them without it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.engine import environment, until
from vpipe.control import Channel
from vpipe.errors import ResourceError
from vpipe.forkserver import NEWS_S, Forked, ForkServer, ServerGone
from vpipe.supervisor.process import Forks, WorkerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()
    assert not psutil.pid_exists(server.pid)


@contextlib.contextmanager
def worker(server: ForkServer | Forks, descriptors: dict[int, int] | None = None) -> Iterator[tuple[Forked, Channel]]:
    """A worker that waits for its assignment."""
    channel, theirs = Channel.pair()
    with contextlib.closing(channel):
        with theirs:
            given = {theirs.fileno(): theirs.fileno(), **(descriptors or {})}
            child = server.fork([str(theirs.fileno()), "idle"], given)
        try:
            yield child, channel
        finally:
            child.kill()
            child.wait()


def test_exit_codes_and_signals_are_told(server: ForkServer) -> None:
    with worker(server) as (child, channel):
        assert child.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.01)
        channel.close()  # a worker without a supervisor leaves
        assert child.wait(10) == 0
    with worker(server) as (child, channel):
        channel.send({"op": "start", "stage": "none"})
        assert child.wait(10) == 1  # an assignment without a counters page
    with worker(server) as (child, _):
        child.kill()
        child.kill()
        assert child.wait(10) == -signal.SIGKILL
        assert child.poll() == -signal.SIGKILL
        child.kill()  # it has ended: nobody else is hit
    # the server takes it away when it hears that we know
    until(lambda: not psutil.Process(server.pid).children(), "the end of what was told of")


def test_a_worker_that_ends_before_its_start_is_told_of_has_its_code(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(timeout_s: float) -> bool:
        time.sleep(0.5)
        return True

    with worker(server):
        pass  # the server has loaded all it needs
    monkeypatch.setattr(server, "await_news", late)
    child = server.fork(["no descriptor", "ill"], {})
    assert child.poll() == 1


def test_a_worker_has_its_name_its_group_and_what_it_was_given(server: ForkServer, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    files = [os.open(path, os.O_CREAT | os.O_RDWR) for path in paths]
    # Each under the number of another, and one far away.
    numbers = {files[0]: files[1], files[1]: files[0], 200: files[2]}
    try:
        with worker(server, numbers) as (child, _):
            process = psutil.Process(child.pid)
            until(lambda: process.name() == "idle", "its name")
            assert [word for word in process.cmdline() if word] == ["vpipe.worker", "idle"]
            assert os.getpgid(child.pid) == child.pid
            assert process.ppid() == server.pid
            found = {number: os.readlink(f"/proc/{child.pid}/fd/{number}") for number in numbers}
            assert found == {files[0]: str(paths[1]), files[1]: str(paths[0]), 200: str(paths[2])}
            kept = {int(number) for number in os.listdir(f"/proc/{child.pid}/fd")}
            assert len(kept) == 3 + 1 + len(numbers), "the server's own, and those of other workers, are closed"
    finally:
        for each in files:
            os.close(each)


def test_more_descriptors_than_fit_into_a_message_are_handed_over(server: ForkServer) -> None:
    copies = [os.dup(0) for _ in range(300)]
    try:
        with worker(server, {each: each for each in copies}) as (child, _):
            process = psutil.Process(child.pid)
            until(lambda: process.name() == "idle", "its name")
            assert set(copies) < {int(number) for number in os.listdir(f"/proc/{child.pid}/fd")}
    finally:
        for each in copies:
            os.close(each)


def test_workers_end_with_their_server_and_the_next_start_has_another() -> None:
    forks = Forks()
    try:
        with worker(forks) as (first, _), worker(forks) as (second, _):
            old = forks.pid
            assert old is not None
            os.kill(old, signal.SIGKILL)
            assert first.wait(10) == second.wait(10) == -signal.SIGKILL
            until(lambda: not psutil.pid_exists(first.pid), "the kernel to kill the worker")
            with worker(forks) as (third, channel):
                assert forks.pid != old
                channel.close()
                assert third.wait(10) == 0
    finally:
        forks.close()


def test_a_server_that_hangs_is_found_out_by_a_death_that_it_does_not_tell(server: ForkServer) -> None:
    with worker(server) as (child, channel), worker(server) as (other, _):
        os.kill(server.pid, signal.SIGSTOP)
        channel.close()
        began = time.monotonic()
        assert child.wait() == -signal.SIGKILL  # by all that is known
        assert time.monotonic() - began < 2 * NEWS_S + 1
        assert other.wait(10) == -signal.SIGKILL
        with pytest.raises(ServerGone), worker(server):
            pass


def test_what_cannot_be_started_is_told_and_leaves_nothing_open() -> None:
    forks = Forks()
    page = os.memfd_create("page")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with worker(forks):
            before = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + 1, hard))
            with pytest.raises(ResourceError, match=r"decode\[0\]: cannot be started: Too many open files; raise"):
                WorkerProcess(forks, "decode[0]", "decode", {}, [], page)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(os.listdir("/proc/self/fd")) == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        forks.close()
        os.close(page)


def test_a_server_started_early_serves_the_next_run_or_ends_with_its_parent() -> None:
    code = """
import sys
from vpipe.forkserver import obtain, start_early
start_early()
if sys.argv[1:] == ["used"]:
    server = obtain()
    print(server.pid)
    server.close()
"""
    for arguments in (["used"], []):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment(), capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        assert bool(done.stdout) == bool(arguments)
        assert time.monotonic() - began < 10


def test_a_server_that_cannot_serve_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    forks = Forks()
    page = os.memfd_create("page")
    try:
        with pytest.raises(ResourceError, match=r"decode\[0\]: cannot be started: the fork server ended 3 times"):
            WorkerProcess(forks, "decode[0]", "decode", {}, [], page)
    finally:
        forks.close()
        os.close(page)

"""The feed server as a process: killed, confused, orphaned, or in want of its packages."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.feeds import (
    DEADLINE_S,
    Feeder,
    ask,
    status,
    ten_masks,
    wait_until,
)
from vpipe.errors import ResourceError, RunError
from vpipe_mask.client import subscribe, watch
from vpipe_mask.server import FeedServer, ServerConfig

LOOPBACK = ServerConfig(host="127.0.0.1")


def test_rubbish_on_the_control_channel_starts_the_server_anew(own_server: FeedServer) -> None:
    ten_masks(own_server)
    own_server._channel._sock.send(b"rubbish\n")
    wait_until(lambda: own_server.restarts == 1, "the restart")
    assert status(own_server, "cam1")["state"] == "live"


def test_server_that_is_killed_comes_back_where_it_was_and_goes_on(own_server: FeedServer) -> None:
    server, feeder = own_server, ten_masks(own_server)
    address, endpoint = server.address, server.pub
    feed = subscribe(str(server.pub), "cam1", timeout_s=DEADLINE_S)
    next(feed)
    for turn in range(1, 3):
        os.kill(server._process.pid, signal.SIGKILL)
        wait_until(lambda turn=turn: server.restarts == turn, "the restart")
        assert (server.address, server.pub) == (address, endpoint)
        assert status(server, "cam1")["state"] == "live"
        feeder.restart()  # or the next key, at most two seconds later
        feeder.send(1.0 * turn)
        assert next(frame for frame in feed if frame.epoch == turn) == feeder.sent[-1]
    feed.close()


def test_server_that_keeps_dying_is_given_up_with_its_last_words(caplog: pytest.LogCaptureFixture) -> None:
    with FeedServer(LOOPBACK) as server:
        feeder = Feeder(server)
        killing = threading.Event()

        def kill() -> None:
            while not killing.wait(0.01):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server._process.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            wait_until(lambda: "started again" in caplog.text, "the first death")
            with pytest.raises(RunError, match="died 6 times in 60 s; it ended with exit code -9"):
                tell_for_ever(feeder)
        finally:
            killing.set()
            thread.join()


def tell_for_ever(feeder: Feeder) -> None:
    for _ in range(3000):
        feeder.tell("live")
        time.sleep(0.01)


def test_full_outlet_never_waits_for_the_server() -> None:
    with FeedServer(LOOPBACK) as server:
        process = psutil.Process(server._process.pid)
        process.suspend()
        try:
            with pytest.raises(BlockingIOError):
                fill_up(server)
        finally:
            process.resume()
        wait_until(lambda: ask(server, "/healthz").status == 200, "the server")


def fill_up(server: FeedServer) -> None:
    for _ in range(100_000):
        os.write(server.outlet, bytes(400))


def test_server_ends_with_its_parent(tmp_path: Path) -> None:
    script = """
        import time
        from vpipe_mask.server import FeedServer, ServerConfig
        server = FeedServer(ServerConfig(host="127.0.0.1"))
        print(server._process.pid, flush=True)
        time.sleep(600)
    """
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert parent.stdout is not None
    with parent:
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([server], timeout=DEADLINE_S)
    assert gone


def test_missing_packages_are_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aiohttp", "zmq"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('none', name={name!r})")
    monkeypatch.syspath_prepend(str(tmp_path))
    for config, name in ((LOOPBACK, "aiohttp"), (ServerConfig(pub="tcp://127.0.0.1:*"), "zmq")):
        with pytest.raises(ResourceError, match=rf"needs {name}: pip install 'vpipe\[live\]'"):
            FeedServer(config)


def test_clients_hear_when_the_server_ends() -> None:
    with FeedServer(LOOPBACK) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        feeder.send(0.0)
        feed = watch(str(server.url), "cam1", timeout_s=DEADLINE_S)
        wait_until(lambda: ask(server, "/streams/cam1").status == 200, "the stream")
        next(feed)
        server.close()
        server.close()  # a second time does nothing
    with pytest.raises(ResourceError, match="has ended: 1001"):
        next(feed)
    with pytest.raises(ResourceError, match="no feed"):
        next(watch(str(server.url), "cam1"))

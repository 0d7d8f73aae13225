"""The parent's side of the feed server: start it, tell it what happens, start it again should it die."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from vpipe.child import child_environment, readable
from vpipe.control import Channel, Message
from vpipe.errors import ResourceError, RunError, VpipeError
from vpipe.log import log
from vpipe_mask.server.config import ServerConfig

START_S = 30.0
END_S = 30.0
"""How long it may take to assemble recordings and to say good-bye; what is left then is done at the next start."""
OUTLET_BYTES = 1 << 18
"""Of messages that wait for the server; the engine counts what does not fit as a drop."""
RESTARTS, WINDOW_S = 5, 60.0
LAST_LINES = 20


class Control(Protocol):
    """What clients with the token may do; `vpipe.Pipeline.live` returns such an object."""

    def add(self, url: str, id: str | None = None) -> str:
        """Add a stream and return its id."""

    def remove(self, id: str) -> None:
        """Remove a stream."""


class FeedServer:
    """A running feed server; a context manager.

    A thread of its own passes on orders of clients, and starts the process again when it has died: the outlet and the
    streams' states survive that.

    Args:
        config: What to serve, and where.

    Raises:
        UsageError: The configuration cannot be.
        ResourceError: An address is not to be had, or a package is missing.
    """

    def __init__(self, config: ServerConfig) -> None:
        config.check()
        self._config = config
        self._control: Control | None = None
        self._states: dict[str, Message] = {}
        """The newest event of each stream that goes on, by id."""
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._starts: deque[float] = deque()
        self._lock = threading.Lock()
        self._closing = False
        self._failure: str | None = None
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._outlet = ours
        for end in (ours, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, OUTLET_BYTES)
        ours.setblocking(False)
        self.address: tuple[str, int] | None = None
        """Host and port in use; None where there is no HTTP."""
        self.pub: str | None = None
        """ZeroMQ endpoint in use."""
        self.restarts = 0
        try:
            self._start()
        except BaseException:
            self._outlet.close()
            self._theirs.close()
            raise
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="vpipe-mask-server", daemon=True)
        self._thread.start()

    @property
    def outlet(self) -> int:
        """Descriptor that the engine writes packets to."""
        return self._outlet.fileno()

    @property
    def pid(self) -> int:
        """Process id of the server as it runs now."""
        return self._process.pid

    @property
    def url(self) -> str | None:
        """Address of the page."""
        if self.address is None:
            return None
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def obey(self, control: Control) -> None:
        """From now on carry out what clients with the token ask for."""
        self._control = control

    def event(self, event: Mapping[str, Any]) -> None:
        """Tell what happened to a stream.

        Raises:
            RunError: The server keeps dying.
        """
        if self._failure is not None:
            raise RunError(self._failure)
        message = {"op": "event", **event}
        with self._lock:
            self._states.pop(event["id"], None)
            if event["event"] not in ("ended", "removed"):
                self._states[event["id"]] = message
            self._channel.send(message)

    def stats(self, streams: Mapping[str, Mapping[str, Any]]) -> None:
        """Tell the engine's figures of each stream, by id."""
        with self._lock:
            self._channel.send({"op": "stats", "streams": {name: dict(values) for name, values in streams.items()}})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process, recordings complete, and free everything."""
        if self._closing:
            return
        with self._lock:
            self._closing = True
            self._channel.send({"op": "stop"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.write(self._woken, b"x")
        self._thread.join()
        for end in (self._wake, self._woken):
            os.close(end)
        for each in (self._channel, self._outlet, self._theirs, self._output):
            each.close()

    def _start(self) -> None:
        """Start the process and wait until it serves."""
        self._channel, theirs = Channel.pair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "vpipe_mask.server", str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno(), self._theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=child_environment(),
                    process_group=0,
                )
        except OSError as error:
            self._channel.close()
            raise ResourceError(f"feed server: cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._channel.send({"op": "start", "config": self._config.to_dict(), "outlet": self._theirs.fileno()})
        deadline = time.monotonic() + START_S
        while not self._channel.closed and time.monotonic() < deadline:
            readable([self._channel.fileno()], max(deadline - time.monotonic(), 0))
            for message in self._channel.receive():
                if message["op"] == "ready":
                    self._serves(message)
                    return
                if message["op"] == "crash":
                    self._end()
                    raise ResourceError(message["error"])
        self._end()
        raise ResourceError(f"feed server: {self._last_words()}")

    def _serves(self, message: Message) -> None:
        self.pub = message["pub"]
        if message["address"] is not None:
            self.address = tuple(message["address"])
            # Should it be started again, then where it was.
            self._config = dataclasses.replace(self._config, port=self.address[1])
        if self.pub is not None:
            self._config = dataclasses.replace(self._config, pub=self.pub)
        for state in self._states.values():
            self._channel.send(state)

    def _end(self) -> None:
        """Reap the process, which is dead or of no use, and close what belonged to it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._read_output()
        self._output.close()
        self._channel.close()

    def _last_words(self) -> str:
        code = self._process.returncode
        last = f"; last line: {self._lines[-1]}" if self._lines else ""
        return f"it ended with exit code {code}{last}"

    def _read_output(self) -> bool:
        """Pass on what it has written; False when there will be no more."""
        try:
            data = os.read(self._output.fileno(), 1 << 16)
        except BlockingIOError:
            return True
        for line in data.decode(errors="replace").splitlines():
            self._lines.append(line)
            log.warning("feed server: %s", line)
        return bool(data)

    def _watch(self) -> None:
        """Run in the thread: hear orders, read its output, start it again."""
        talking = True
        while True:
            waited_for = [self._wake, self._channel.fileno(), *([self._output.fileno()] if talking else [])]
            ready = readable(waited_for, None)
            if self._wake in ready:
                return
            if talking and self._output.fileno() in ready:
                talking = self._read_output()
            if self._channel.fileno() in ready:
                with self._lock:
                    messages = self._channel.receive()
                for message in messages:
                    self._obey(message)
                if self._channel.closed:
                    if self._closing or not self._again():
                        return
                    talking = True

    def _again(self) -> bool:
        """Start it again; False where that is of no use."""
        with self._lock:
            if self._closing:
                return False
            self._end()
            while self._may_start():
                log.warning("feed server: %s; it is started again", self._last_words())
                try:
                    self._start()
                except ResourceError as error:
                    log.warning("%s", error)
                    continue
                self.restarts += 1
                return True
            self._failure = f"feed server: died {RESTARTS + 1} times in {WINDOW_S:.0f} s; {self._last_words()}"
            log.error("%s", self._failure)
            return False

    def _may_start(self) -> bool:
        """Note a start now; False when there have been too many."""
        now = time.monotonic()
        while self._starts and now - self._starts[0] > WINDOW_S:
            self._starts.popleft()
        self._starts.append(now)
        return len(self._starts) <= RESTARTS

    def _obey(self, message: Message) -> None:
        """Carry out an order of a client; what goes wrong is the client's to know."""
        answer: dict[str, Any] = {"op": "answer", "request": message.get("request"), "ok": True, "error": None}
        try:
            if self._control is None:
                raise VpipeError("this run takes no orders")
            if message["op"] == "add":
                answer["id"] = self._control.add(message["url"], message["id"])
            elif message["op"] == "remove":
                self._control.remove(message["id"])
            else:
                return
        except VpipeError as error:
            answer.update(ok=False, error=str(error))
        with self._lock:
            self._channel.send(answer)

"""Clients of the feed server that are slow, many or talkative harm no one else."""

import contextlib
import itertools
import socket
import time
from urllib.parse import urlsplit

from tests.feeds import (
    DEADLINE_S,
    Feeder,
    ask,
    wait_until,
)
from tests.process.mask_server.raw_client import RawClient
from vpipe_mask.code import CodeError, Decoder
from vpipe_mask.server import FeedServer, ServerConfig

TOKEN = "correct-horse-battery-staple"


def test_client_that_stalls_gets_the_newest_and_holds_up_no_one(feeder: Feeder) -> None:
    with RawClient(feeder.server, "cam1") as stalled, RawClient(feeder.server, "cam1") as brisk:
        decoder = Decoder()
        decoder.decode(stalled.message(2))
        brisk.message(2)
        until = time.monotonic() + 4.0
        while time.monotonic() < until or len(feeder.sent) < 80:
            sent = feeder.send(feeder.sequence / 25)
            while brisk.message(2) != feeder.data[-1]:
                pass
            time.sleep(0.01)
        count = len(feeder.sent)
        # It takes up reading: what was on its way before it stalled, and then the newest, with what that needs.
        got = []
        while not got or got[-1] != sent:
            got.append(decoder.decode(stalled.message(2)))
        gaps = [after.sequence - before.sequence for before, after in itertools.pairwise(got)]
        assert max(gaps) > 0.3 * count


def test_client_may_ask_for_fewer_masks(feeder: Feeder) -> None:
    with RawClient(feeder.server, "cam1", "?rate=5") as few:
        few.message(2)
        began = time.monotonic()
        for _ in range(100):
            feeder.send(feeder.sequence / 25)
            time.sleep(0.01)
        lasted_s = time.monotonic() - began
        time.sleep(0.5)  # by now it may have one more
        last = feeder.send(feeder.sequence / 25)
        decoder, got = Decoder(), []
        while not got or got[-1] != last:
            with contextlib.suppress(CodeError):
                got.append(decoder.decode(few.message(2)))
        assert 2 <= len(got) <= 2 * (4 + 5 * (lasted_s + 1))  # each may bring its key
    assert ask(feeder.server, "/streams/cam1/feed?rate=0").status == 400


def test_clients_are_limited_in_number_and_in_talk() -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", max_clients=2)) as server:
        Feeder(server).tell("live")
        wait_until(lambda: ask(server, "/streams/cam1").status == 200, "the stream")
        with RawClient(server, "cam1") as first, RawClient(server, "cam1") as second:
            first.message(1)
            second.message(1)
            with RawClient(server, "cam1") as third:
                assert third.status == b"503"
            for _ in range(200):
                first.send(1, b"hello?")
            assert int.from_bytes(first.message(8)[:2], "big") == 1008
            second.send(9, b"ping")
            assert second.message(10) == b"ping"
        wait_until(lambda: "vpipe_mask_clients 0.0" in ask(server, "/metrics").body.decode(), "clients to be gone")
        # Beyond twice as many connections the next ones are turned away, until some leave.
        parts = urlsplit(str(server.url))
        with contextlib.ExitStack() as stack:
            idle = [
                stack.enter_context(socket.create_connection((parts.hostname, parts.port), DEADLINE_S))
                for _ in range(5)
            ]
            assert idle[-1].recv(100).startswith(b"HTTP/1.1 503")
        wait_until(lambda: ask(server, "/healthz").status == 200, "a free connection")


def test_request_that_does_not_come_to_an_end_is_cut_off() -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", token=TOKEN, patience_s=0.3)) as server:
        parts = urlsplit(str(server.url))
        head = f"POST /streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 50\r\n\r\n{{"
        for sent, answer in ((b"", b""), (b"GET / HT", b""), (head.encode(), b"HTTP/1.1 408")):
            with socket.create_connection((parts.hostname, parts.port), DEADLINE_S) as slow:
                slow.sendall(sent)
                with contextlib.suppress(ConnectionResetError):
                    assert slow.recv(100)[:12] == answer
        too_large = ask(server, "/streams", method="POST", token=TOKEN, body=b" " * 20_000)
        assert too_large.status == 413

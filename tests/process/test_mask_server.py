"""The feed server as a process: what renderers get over each transport, who is let in, what happens in trouble."""

import contextlib
import itertools
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import cv2
import numpy as np
import psutil
import pytest
import zmq

from tests.feeds import DEADLINE_S, Feeder, ask, outline_at, wait_until
from vpipe.errors import ResourceError, RunError, UsageError, VpipeError
from vpipe_mask.client import subscribe, watch
from vpipe_mask.code import CodeError, Decoder, MaskFrame, is_key
from vpipe_mask.formats import FORMATS
from vpipe_mask.outline import fill
from vpipe_mask.server import FeedServer, ServerConfig, parse_serve

TOKEN = "correct-horse-battery-staple"
LOOPBACK = ServerConfig(host="127.0.0.1")

Connect = Callable[[FeedServer, str], Iterator[MaskFrame]]


def over_websocket(server: FeedServer, stream: str) -> Iterator[MaskFrame]:
    return watch(str(server.url), stream, timeout_s=DEADLINE_S)


def over_zeromq(server: FeedServer, stream: str) -> Iterator[MaskFrame]:
    return subscribe(str(server.pub), stream, timeout_s=DEADLINE_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    """A server for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("server")
    with FeedServer(ServerConfig(host="127.0.0.1", pub=f"ipc://{folder}/feed", max_rate=1000)) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[FeedServer]:
    """A server that a test may harm."""
    with FeedServer(ServerConfig(host="127.0.0.1", pub=f"ipc://{tmp_path}/feed")) as running:
        yield running


@pytest.fixture
def feeder(server: FeedServer) -> Iterator[Feeder]:
    """The live stream `cam1`, which has sent ten masks."""
    feeder = ten_masks(server)
    yield feeder
    feeder.tell("removed")
    wait_until(lambda: not ask(server, "/streams").json["streams"], "the stream to be gone")


def ten_masks(server: FeedServer) -> Feeder:
    feeder = Feeder(server)
    feeder.tell("live")
    for index in range(10):
        feeder.send(index / 25)
    settled(feeder)
    return feeder


def keys(feeder: Feeder) -> list[bytes]:
    return [data for data in feeder.data if is_key(data)]


def settled(feeder: Feeder) -> None:
    """Wait until the server has all that was sent."""
    wait_until(lambda: status(feeder.server, feeder.name)["figures"]["masks"] >= len(feeder.sent), "masks arrive")


def status(server: FeedServer, name: str, token: str | None = None) -> dict:
    return ask(server, f"/streams/{name}", token=token).json


def decoded(data: bytes) -> list[MaskFrame]:
    """What `/masks` returns."""
    decoder, found = Decoder(), []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(decoder.decode(data[4 : 4 + length]))
        data = data[4 + length :]
    return found


# what renderers get


@pytest.mark.parametrize("connect", [over_websocket, over_zeromq])
def test_who_joins_gets_the_last_key_and_then_every_mask(feeder: Feeder, connect: Connect) -> None:
    feed = connect(feeder.server, "cam1")
    assert next(feed) in feeder.sent
    for index in range(10, 80):
        sent = feeder.send(index / 25)
        assert next(frame for frame in feed if frame.sequence >= index) == sent
    feed.close()


@pytest.mark.parametrize("connect", [over_websocket, over_zeromq])
def test_streams_do_not_mix(server: FeedServer, connect: Connect) -> None:
    feeders = [Feeder(server, number, name) for number, name in ((7, "cam7"), (8, "cam70"))]
    for feeder in feeders:
        feeder.tell("live")
        feeder.send(feeder.number + 1.0)
        settled(feeder)
    feeds = [connect(server, feeder.name) for feeder in feeders]
    assert [next(feed) for feed in feeds] == [feeder.sent[0] for feeder in feeders]
    for feeder in reversed(feeders):
        feeder.send(feeder.number + 2.0)
    assert [next(feed) for feed in feeds] == [feeder.sent[1] for feeder in feeders]
    for feeder in feeders:
        feeder.tell("removed")
    for feed in feeds:
        feed.close()


def test_bytes_are_the_same_on_every_transport(feeder: Feeder, tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.connect(str(feeder.server.pub))
        subscriber.subscribe(b"")
        assert subscriber.poll(DEADLINE_S * 1000)
        key = subscriber.recv_multipart()
        with RawClient(feeder.server, "cam1") as client:
            assert client.message(2) == key[1]
            assert key == [b"cam1/", keys(feeder)[-1]]
            feeder.send(0.4)
            assert subscriber.recv_multipart() == [b"cam1/", feeder.data[-1]]
            wait_until(lambda: client.message(2) == feeder.data[-1], "the newest mask")
    assert ask(feeder.server, "/streams/cam1/mask?as=code&pts=0").body == feeder.data[0]


def test_subscribers_who_leave_or_ask_for_nothing_take_no_mask_from_others(feeder: Feeder) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as steady, context.socket(zmq.SUB) as fickle:
        for each in (steady, fickle):
            each.linger = 0
            each.connect(str(feeder.server.pub))
        steady.subscribe(b"cam1/")
        steady.recv_multipart()
        for index in range(10, 30):
            # Neither a topic that no stream has nor an end of interest may divert the mask that follows.
            fickle.subscribe(f"none{index}".encode())
            fickle.unsubscribe(f"none{index}".encode())
            feeder.send(index / 25)
            assert steady.poll(DEADLINE_S * 1000)
            assert steady.recv_multipart()[1] == feeder.data[-1]


def test_mask_at_a_pts_is_the_last_one_before_it(feeder: Feeder) -> None:
    for pts, sequence in ((0.0, 0), (0.0399, 0), (0.04, 1), (0.21, 5), (0.36, 9), (1.1, 9)):
        found = ask(feeder.server, f"/streams/cam1/mask?pts={pts}")
        assert (found.status, found.json["sequence"]) == (200, sequence)
        assert found.headers["X-Mask-Pts"] == f"{sequence / 25:.6f}"
    assert ask(feeder.server, "/streams/cam1/mask").json["sequence"] == 9
    for pts, why in ((-0.01, "no mask is kept"), (1.5, "s old")):
        found = ask(feeder.server, f"/streams/cam1/mask?pts={pts}")
        assert found.status == 404
        assert why in found.json["error"]
    assert ask(feeder.server, "/streams/cam1/mask?pts=1.5&max_age=10").json["sequence"] == 9
    assert ask(feeder.server, "/streams/cam1/mask?pts=inf").status == 400
    assert ask(feeder.server, "/streams/cam1/mask?pts=soon").status == 400


def test_mask_comes_in_the_form_asked_for(feeder: Feeder) -> None:
    expected = feeder.sent[5]
    whole = fill(expected.outline)
    for how in ({"path": "&as=png"}, {"headers": {"Accept": "image/avif, image/png;q=0.9"}}):
        answer = ask(feeder.server, f"/streams/cam1/mask?pts=0.2{how.get('path', '')}", headers=how.get("headers"))
        assert answer.headers["Content-Type"] == "image/png"
        assert np.array_equal(cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_UNCHANGED), whole)
    code = ask(feeder.server, "/streams/cam1/mask?pts=0.2&as=code")
    assert Decoder().decode(code.body).outline == expected.outline, "it must stand for itself"
    plain = ask(feeder.server, "/streams/cam1/mask?pts=0.2").json
    assert (plain["width"], plain["height"], plain["rect"], plain["applied"]) == (320, 180, [0, 0, 1, 1], True)
    assert len(plain["polygons"][0]) == len(expected.outline.polygons[0])
    assert np.allclose(np.mean(plain["polygons"][0], axis=0), [60 + 40 * 0.2, 90], atol=2)
    assert ask(feeder.server, "/streams/cam1/mask?as=bmp").status == 406


def test_mask_that_is_not_applied_is_told_so(feeder: Feeder) -> None:
    feeder.send(0.4, applied=False)
    settled(feeder)
    assert ask(feeder.server, "/streams/cam1/mask").json["applied"] is False
    picture = ask(feeder.server, "/streams/cam1/mask?as=png").body
    assert not cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED).any()


def test_range_of_masks_is_decodable_from_its_first(feeder: Feeder) -> None:
    for index in range(10, 150):
        feeder.send(index / 25)
    settled(feeder)
    answer = ask(feeder.server, "/streams/cam1/masks?from=3&to=4")
    found = [frame for frame in decoded(answer.body) if frame.pts_us >= 3_000_000]
    assert found == [frame for frame in feeder.sent if 3_000_000 <= frame.pts_us <= 4_000_000]
    assert decoded(ask(feeder.server, "/streams/cam1/masks").body) == feeder.sent
    assert ask(feeder.server, "/streams/cam1/masks?from=100&to=101").status == 200


def test_history_ends_where_it_was_told_to() -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", history_s=2.0)) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(250):
            feeder.send(index / 25)
        settled(feeder)
        oldest = status(server, "cam1")["figures"]["oldest_pts"]
        assert 7.5 <= oldest <= 7.96
        assert ask(server, "/streams/cam1/mask?pts=7").status == 404
    with FeedServer(ServerConfig(host="127.0.0.1", history_bytes=4000)) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(250):
            feeder.send(index / 25)
        settled(feeder)
        kept = len(ask(server, "/streams/cam1/masks").body)
        assert 3000 <= kept <= 6000


def test_new_epoch_begins_a_new_history(feeder: Feeder) -> None:
    feed = over_websocket(feeder.server, "cam1")
    next(feed)
    feeder.restart()
    feeder.send(0.0)
    first = next(frame for frame in feed if frame.epoch == 1)
    assert first == feeder.sent[-1]
    assert ask(feeder.server, "/streams/cam1/mask?pts=0.2").json["epoch"] == 1
    feed.close()


def test_status_tells_state_figures_and_what_the_engine_says(feeder: Feeder) -> None:
    told_by_engine = {
        "id": "cam1",
        "stream": 0,
        "state": "live",
        "info": {"width": 640},
        "dropped": {"late": 3},
        "frames": 12,
    }
    feeder.server.stats({"cam1": told_by_engine, "unknown": {"x": 1}})
    wait_until(lambda: status(feeder.server, "cam1")["engine"], "figures of the engine")
    told = status(feeder.server, "cam1")
    assert told["state"] == "live"
    assert told["engine"] == {"dropped_late": 3, "frames": 12}
    assert told["info"]["width"] == 640
    figures = told["figures"]
    assert figures["masks"] == 10
    assert figures["bytes"] == sum(map(len, feeder.data))
    assert figures["masks_per_s"] > 0
    assert 0 < figures["lag_ms_p50"] <= figures["lag_ms_p99"]
    assert [each["id"] for each in ask(feeder.server, "/streams").json["streams"]] == ["cam1"]
    feeder.tell("down", reason="connection reset", retry_s=0.5, info=None)
    wait_until(lambda: status(feeder.server, "cam1")["state"] == "down", "the state")
    assert status(feeder.server, "cam1")["reason"] == "connection reset"
    assert status(feeder.server, "cam1")["info"]["width"] == 640
    assert ask(feeder.server, "/healthz").json == {"status": "ok", "streams": {"down": 1}}


def test_metrics_are_prometheus_text(feeder: Feeder) -> None:
    feeder.packet(struct.pack("<I", 0) + b"rubbish")
    feeder.server.stats({"cam1": {"dropped": {"late": 3}}})
    wait_until(lambda: status(feeder.server, "cam1")["engine"], "figures of the engine")
    text = ask(feeder.server, "/metrics").body.decode()
    for line in (
        'vpipe_mask_stream_state{state="live",stream="cam1"} 1.0',
        'vpipe_mask_masks_total{stream="cam1"} 10.0',
        'vpipe_mask_engine{figure="dropped_late",stream="cam1"} 3.0',
        "vpipe_mask_clients 0.0",
    ):
        assert line in text.splitlines()
    assert 'vpipe_mask_lag_seconds{quantile="0.99",stream="cam1"}' in text
    assert "vpipe_mask_damaged_total 0.0" not in text


def test_packets_that_are_no_masks_harm_nothing(own_server: FeedServer) -> None:
    feeder = ten_masks(own_server)
    delta = next(data for data in feeder.data if not is_key(data))
    for rubbish in (b"x", struct.pack("<I", 0), struct.pack("<I", 0) + os.urandom(300), struct.pack("<I", 9) + delta):
        feeder.packet(rubbish)
    for number in range(1000, 1100):  # streams that nothing was said of
        feeder.packet(struct.pack("<I", number) + keys(feeder)[0])
    feeder.send(0.4)
    settled(feeder)
    assert ask(feeder.server, "/streams/cam1/mask").json["sequence"] == 10
    assert len(ask(feeder.server, "/streams").json["streams"]) == 1


def test_masks_that_come_before_the_streams_name_are_kept(own_server: FeedServer) -> None:
    server, feeder = own_server, Feeder(own_server)
    feeder.send(0.0)
    feeder.tell("live")
    wait_until(lambda: ask(server, "/streams/cam1/mask").status == 200, "the first mask")


def test_removed_stream_says_good_bye_and_its_number_can_be_used_again(own_server: FeedServer) -> None:
    feeder = ten_masks(own_server)
    feed = over_websocket(feeder.server, "cam1")
    next(feed)
    feeder.tell("removed")
    with pytest.raises(ResourceError, match="feed has ended"):
        list(feed)
    assert ask(feeder.server, "/streams/cam1").status == 404
    for name in ("cam2", "cam3"):  # the engine may also skip the farewell
        again = Feeder(feeder.server, feeder.number, name)
        again.tell("live")
        again.send(0.0)
        settled(again)
    assert [each["id"] for each in ask(feeder.server, "/streams").json["streams"]] == ["cam3"]
    moved = Feeder(feeder.server, 5, "cam3")
    moved.tell("live")
    moved.send(7.0)
    wait_until(lambda: status(feeder.server, "cam3")["figures"]["newest_pts"] == 7.0, "the stream under its new number")


def test_of_streams_that_ended_only_the_last_are_remembered(own_server: FeedServer) -> None:
    for number in range(20):
        feeder = Feeder(own_server, number, f"cam{number}")
        feeder.tell("live")
        feeder.tell("ended")
    feeder.tell("live")
    wait_until(lambda: ask(own_server, "/streams/cam19").json.get("state") == "live", "the last event")
    assert [each["id"] for each in ask(own_server, "/streams").json["streams"]] == [f"cam{n}" for n in range(4, 20)]


# slow clients


class RawClient:
    """A WebSocket client that reads when it is told to, and not before."""

    def __init__(self, server: FeedServer, stream: str, query: str = "") -> None:
        parts = urlsplit(str(server.url))
        self.socket = socket.create_connection((parts.hostname, parts.port), DEADLINE_S)
        self.socket.sendall(
            f"GET /streams/{stream}/feed{query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        self.status = self.file.readline().split()[1]
        while self.file.readline().strip():
            pass

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, opcode: int, data: bytes) -> None:
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data)

    def message(self, wanted: int) -> bytes:
        """The next message of an opcode: 1 text, 2 binary, 8 close; pings are answered."""
        while True:
            head = self.file.read(2)
            if len(head) < 2:
                raise ConnectionError
            length = head[1] & 127
            if length >= 126:
                length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
            data = self.file.read(length)
            if head[0] & 15 == 9:
                self.send(10, data)
            elif head[0] & 15 == wanted:
                return data


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


# who is let in


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (ServerConfig(host="0.0.0.0"), "not a loopback address"),
        (ServerConfig(host="player.example"), "not a loopback address"),
        (ServerConfig(pub="tcp://*:5000"), "not a loopback address"),
        (ServerConfig(pub="udp://127.0.0.1:5000"), "neither ipc"),
        (ServerConfig(host="::1", token="short"), "token: 5 characters"),
        (ServerConfig(host="::1", origins=("player.example",)), "SCHEME://HOST"),
        (ServerConfig(host="::1", videos={"*": "/no/such.mp4"}), "video '/no/such.mp4'"),
        (ServerConfig(host="::1", comments={"*": "http://example/c.xml"}), "no such file"),
        (ServerConfig(host="::1", hls_js="/no/hls.js"), "hls.js"),
        (ServerConfig(host="::1", record="x", record_formats=("webmask", "gif")), "gif"),
        (ServerConfig(host="::1", max_rate=0), "above 0"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(config: ServerConfig, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        FeedServer(config)


def test_address_is_read_as_people_write_it() -> None:
    assert parse_serve("8800") == ("127.0.0.1", 8800)
    assert parse_serve("0.0.0.0:8800") == ("0.0.0.0", 8800)
    assert parse_serve("[::1]:8800") == ("::1", 8800)
    for text in ("", "host", "host:http", "host:99999"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            parse_serve(text)


def test_address_in_use_is_told_with_the_remedy(server: FeedServer) -> None:
    assert server.address is not None
    with pytest.raises(ResourceError, match=r"--serve .* choose another port"):
        FeedServer(ServerConfig(host=server.address[0], port=server.address[1]))
    with FeedServer(ServerConfig(pub="tcp://127.0.0.1:*")) as first:
        with pytest.raises(ResourceError, match=r"--pub .* cannot be bound"):
            FeedServer(ServerConfig(pub=first.pub))
        assert first.url is None


def test_with_a_token_only_who_has_it_is_let_in(tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"moving pictures")
    config = ServerConfig(host="0.0.0.0", token=TOKEN, videos={"*": str(video)}, pub="tcp://0.0.0.0:*")
    with FeedServer(config) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        feeder.send(0.0)
        paths = ["/streams", "/streams/cam1", "/streams/cam1/mask", "/streams/cam1/video", "/metrics"]
        wait_until(lambda: ask(server, "/streams/cam1/mask", token=TOKEN).status == 200, "a mask")
        for path in paths:
            assert ask(server, path).status == 401
            assert ask(server, path, token=TOKEN + "x").status == 401
            assert ask(server, path, token=TOKEN).status == 200
            assert ask(server, f"{path}?token={TOKEN}").status == 200
        assert ask(server, "/streams/cam1/feed").status == 401
        for path in ("/", "/healthz", "/static/page.js"):
            assert ask(server, path).status == 200
        assert ask(server, f"/streams/cam1?token={TOKEN}", method="DELETE").status == 401, "not by an address"

        port = str(server.pub).rpartition(":")[2]
        assert next(watch(str(server.url), "cam1", token=TOKEN, timeout_s=DEADLINE_S)) == feeder.sent[0]
        endpoint = f"tcp://127.0.0.1:{port}"
        assert next(subscribe(endpoint, "cam1", token=TOKEN, timeout_s=DEADLINE_S)) == feeder.sent[0]
        for wrong in (None, TOKEN + "x"):
            with pytest.raises(TimeoutError, match="no mask"):
                next(subscribe(endpoint, "cam1", token=wrong, timeout_s=0.5))
        with pytest.raises(ResourceError, match="401"):
            next(watch(str(server.url), "cam1", timeout_s=DEADLINE_S))


def test_pages_of_strangers_are_kept_out() -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", origins=("https://player.example",))) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        own = f"http://{urlsplit(str(server.url)).netloc}"
        wait_until(lambda: ask(server, "/streams/cam1").status == 200, "the stream")
        for origin, status_code in (
            (own, 200),
            ("https://player.example", 200),
            ("https://evil.example", 403),
            ("null", 403),
        ):
            answer = ask(server, "/streams", headers={"Origin": origin})
            assert answer.status == status_code
            foreign = status_code == 200 and origin != own
            assert answer.headers["Access-Control-Allow-Origin"] == (origin if foreign else None)
        assert ask(server, "/streams/cam1/feed", headers={"Origin": "https://evil.example"}).status == 403
        allowed = ask(server, "/streams", method="OPTIONS", headers={"Origin": "https://player.example"})
        assert "Authorization" in allowed.headers["Access-Control-Allow-Headers"]
        # A name that someone else's DNS leads here is not ours, whatever the address it came by.
        assert ask(server, "/streams", headers={"Host": "evil.example"}).status == 403
        assert ask(server, "/streams", headers={"Host": "localhost:1"}).status == 200


def test_ipc_socket_is_its_owners_alone(own_server: FeedServer, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "feed").stat().st_mode) == 0o600
    own_server.close()
    assert not (tmp_path / "feed").exists()


# streams are added and removed


class Engine:
    """What the live engine does with orders, on paper."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, ...]] = []

    def add(self, url: str, id: str | None = None) -> str:
        if url.startswith("ftp:"):
            raise VpipeError(f"{url}: no live protocol")
        self.orders.append(("add", url))
        return id or "cam7"

    def remove(self, id: str) -> None:
        self.orders.append(("remove", id))


def test_streams_are_added_and_removed_with_the_token() -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", token=TOKEN)) as server:
        engine = Engine()
        wish = {"url": "rtmp://example/live"}
        refused = ask(server, "/streams", method="POST", token=TOKEN, body=wish)
        assert refused.status == 409
        server.obey(engine)
        added = ask(server, "/streams", method="POST", token=TOKEN, body=wish)
        assert (added.status, added.json) == (201, {"id": "cam7"})
        named = ask(server, "/streams", method="POST", token=TOKEN, body={**wish, "id": "door"})
        assert named.json == {"id": "door"}
        bad = ask(server, "/streams", method="POST", token=TOKEN, body={"url": "ftp://example"})
        assert (bad.status, bad.json) == (409, {"error": "ftp://example: no live protocol"})
        for body in (b"{", b"[]", {"id": "x"}, {"url": 5}, {"url": "rtmp://x", "id": 5}, b"\xff"):
            assert ask(server, "/streams", method="POST", token=TOKEN, body=body).status == 400
        assert ask(server, "/streams", method="POST", body=wish).status == 401
        Feeder(server, name="door").tell("live")
        wait_until(lambda: ask(server, "/streams/door", token=TOKEN).status == 200, "the stream")
        assert ask(server, "/streams/door", method="DELETE", token=TOKEN).status == 200
        assert ask(server, "/streams/gone", method="DELETE", token=TOKEN).status == 404
        assert engine.orders == [("add", wish["url"]), ("add", wish["url"]), ("remove", "door")]


def test_without_a_token_no_one_adds_streams(server: FeedServer) -> None:
    refused = ask(server, "/streams", method="POST", body={"url": "rtmp://example/live"})
    assert refused.status == 403
    assert "VPIPE_TOKEN" in refused.json["error"]


# files


def test_only_named_files_are_served_and_in_ranges(tmp_path: Path) -> None:
    video, secret = tmp_path / "clip.mp4", tmp_path / "secret.txt"
    video.write_bytes(bytes(range(256)) * 40)
    secret.write_text("secret")
    comments = tmp_path / "comments.jsonl"
    comments.write_text(json.dumps({"time_s": 1.5, "text": "前方高能", "color": "#ff8000"}) + "\n")
    hls_js = tmp_path / "hls.js"
    hls_js.write_text("globalThis.Hls = class {};")
    config = ServerConfig(
        host="127.0.0.1",
        videos={"cam1": str(video), "rtmp://example/door": "https://cdn.example/live.m3u8"},
        comments={"cam1": str(comments)},
        hls_js=str(hls_js),
    )
    with FeedServer(config) as server:
        for number, (name, url) in enumerate(
            [("cam1", "door"), ("cam2", "rtmp://example/door"), ("cam3", str(secret))]
        ):
            Feeder(server, number, name).tell("live", url=url)
        wait_until(lambda: ask(server, "/streams/cam3").status == 200, "the streams")
        part = ask(server, "/streams/cam1/video", headers={"Range": "bytes=300-309"})
        assert (part.status, part.body) == (206, bytes(range(44, 54)))
        assert ask(server, "/streams/cam1/video").body == video.read_bytes()
        assert status(server, "cam1")["video"] == "streams/cam1/video"
        assert status(server, "cam2")["video"] == "https://cdn.example/live.m3u8"
        assert status(server, "cam3")["video"] is None
        for name in ("cam2", "cam3"):
            assert ask(server, f"/streams/{name}/video").status == 404
        assert ask(server, "/streams/cam1/comments").json == {
            "comments": [{"time": 1.5, "text": "前方高能", "mode": "scroll", "color": "#ff8000", "size": 1.0}]
        }
        assert ask(server, "/streams/cam2/comments").json == {"comments": []}
        assert "https://cdn.example" in ask(server, "/").headers["Content-Security-Policy"]
        assert ask(server, "/static/hls.js").body == hls_js.read_bytes()
        for path in (
            f"/static/..%2f..%2f..%2f{secret}",
            f"/static/{secret}",
            "/static/%2e%2e/web.py",
            "/static/../web.py",
        ):
            assert ask(server, path).status in (403, 404)


def test_hls_js_is_served_only_where_it_was_named(server: FeedServer) -> None:
    assert ask(server, "/static/hls.js").status == 404


# recordings


def masks_of(path: Path) -> list[int]:
    return [pts_ms for pts_ms, _ in FORMATS[path.suffix[1:]].read(path)]


def test_feed_is_recorded_a_file_an_epoch(tmp_path: Path) -> None:
    config = ServerConfig(host="127.0.0.1", record=str(tmp_path), record_formats=("webmask", "mobmask"))
    with FeedServer(config) as server:
        feeder = Feeder(server, name="cam/1")
        feeder.tell("live")
        for index in range(60):
            feeder.send(index / 25 - 0.08)  # the first two are before 0, where players have no time
        feeder.restart()
        for index in range(30):
            feeder.send(5 + index / 25, applied=False)
        feeder.tell("ended")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[-9:] for name in names] == ["0.mobmask", "0.webmask", "1.mobmask", "1.webmask"]
    assert all(name.startswith("cam_1-2") for name in names)
    for name in names[:2]:
        assert masks_of(tmp_path / name) == [40 * index for index in range(58)]
    for pts_ms, alpha in FORMATS["mobmask"].read(tmp_path / names[0]):
        truth = fill(outline_at(pts_ms / 1000)) > 0
        assert (truth & (alpha > 0)).sum() > 0.97 * (truth | (alpha > 0)).sum()
    assert not any(alpha.any() for _, alpha in FORMATS["mobmask"].read(tmp_path / names[2]))


def test_recording_goes_on_in_a_new_file_when_its_time_is_over(tmp_path: Path) -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(tmp_path), record_minutes=0.1)) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(200):
            feeder.send(index / 25)
            # The name is of the second in which the file begins.
            if index == 145:
                settled(feeder)
                time.sleep(1.0)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert sorted(itertools.chain(*map(masks_of, files))) == [40 * index for index in range(200)]


def test_what_a_killed_server_recorded_is_there_after_the_next_start(tmp_path: Path) -> None:
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(tmp_path))) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(60):
            feeder.send(index / 25)
        settled(feeder)
        os.kill(server._process.pid, signal.SIGKILL)
        wait_until(lambda: server.restarts == 1, "the restart")
        wait_until(lambda: list(tmp_path.glob("*.webmask")), "the file")
    (journal,) = tmp_path.glob("*.webmask")
    assert masks_of(journal) == [40 * index for index in range(60)]


def test_journal_that_is_cut_short_gives_what_was_whole(tmp_path: Path) -> None:
    with FeedServer(LOOPBACK) as server:
        feeder = Feeder(server)
        feeder.tell("live")
        for index in range(20):
            feeder.send(index / 25)
        settled(feeder)
        data = ask(server, "/streams/cam1/masks").body
    (tmp_path / ".cut-20260101T000000Z-0.feed").write_bytes(data[:-7])
    (tmp_path / ".empty-20260101T000000Z-0.feed").write_bytes(b"\1")
    (tmp_path / ".huge-20260101T000000Z-0.feed").write_bytes(b"\xff\xff\xff\x7f" + data)
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(tmp_path))):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cut-20260101T000000Z-0.webmask"]
    assert masks_of(next(tmp_path.iterdir())) == [40 * index for index in range(19)]


def test_journal_of_a_running_server_is_left_to_it(tmp_path: Path) -> None:
    config = ServerConfig(host="127.0.0.1", record=str(tmp_path))
    with FeedServer(config) as server:
        feeder = ten_masks(server)
        with FeedServer(config):
            pass
        assert [path.suffix for path in tmp_path.iterdir()] == [".feed"]
        feeder.send(0.4)
        settled(feeder)
    (file,) = tmp_path.iterdir()
    assert masks_of(file) == [40 * index for index in range(11)]


def test_recording_that_cannot_be_written_does_not_hold_up_the_feed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "records"
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(folder))) as server:
        folder.rmdir()
        feeder = ten_masks(server)
        assert ask(server, "/streams/cam1/mask").json["sequence"] == 9
        wait_until(lambda: "recording of cam1: [Errno 2]" in caplog.text, "the reason")
        feeder.tell("removed")
    # A file's name that is taken: the journal stays for another try.
    folder.mkdir()
    journal = folder / ".cam1-20260101T000000Z-0.feed"
    journal.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in feeder.data))
    taken = folder / "cam1-20260101T000000Z-0.webmask"
    (taken / "x").mkdir(parents=True)
    with FeedServer(ServerConfig(host="127.0.0.1", record=str(folder))):
        pass
    assert "cam1-20260101T000000Z-0.webmask" in caplog.text
    assert journal.exists()


# trouble


def test_rubbish_on_the_control_channel_starts_the_server_anew(own_server: FeedServer) -> None:
    ten_masks(own_server)
    own_server._channel._sock.send(b"rubbish\n")
    wait_until(lambda: own_server.restarts == 1, "the restart")
    assert status(own_server, "cam1")["state"] == "live"


def test_masks_out_of_order_have_no_place_in_the_history(own_server: FeedServer) -> None:
    feeder = ten_masks(own_server)
    feeder.send(0.1)
    settled(feeder)
    assert ask(own_server, "/streams/cam1/mask?pts=0.1").json["sequence"] == 2
    assert decoded(ask(own_server, "/streams/cam1/masks").body) == feeder.sent[:10]


def test_server_that_is_killed_comes_back_where_it_was_and_goes_on(own_server: FeedServer) -> None:
    server, feeder = own_server, ten_masks(own_server)
    address, endpoint = server.address, server.pub
    feed = over_zeromq(server, "cam1")
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
    assert aiohttp.__version__

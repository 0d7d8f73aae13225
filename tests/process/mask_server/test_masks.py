"""What renderers get from the feed server: the same masks on every transport, masks by time, facts of streams."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import zmq

from tests.feeds import (
    DEADLINE_S,
    Feeder,
    ask,
    decoded,
    keys,
    settled,
    status,
    ten_masks,
    wait_until,
)
from tests.process.mask_server.raw_client import RawClient
from vpipe.errors import ResourceError
from vpipe_mask.client import subscribe, watch
from vpipe_mask.code import Decoder, MaskFrame, is_key
from vpipe_mask.outline import fill
from vpipe_mask.server import FeedServer, ServerConfig

Connect = Callable[[FeedServer, str], Iterator[MaskFrame]]


def over_websocket(server: FeedServer, stream: str) -> Iterator[MaskFrame]:
    return watch(str(server.url), stream, timeout_s=DEADLINE_S)


def over_zeromq(server: FeedServer, stream: str) -> Iterator[MaskFrame]:
    return subscribe(str(server.pub), stream, timeout_s=DEADLINE_S)


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


def test_masks_out_of_order_have_no_place_in_the_history(own_server: FeedServer) -> None:
    feeder = ten_masks(own_server)
    feeder.send(0.1)
    settled(feeder)
    assert ask(own_server, "/streams/cam1/mask?pts=0.1").json["sequence"] == 2
    assert decoded(ask(own_server, "/streams/cam1/masks").body) == feeder.sent[:10]

"""Who may ask the feed server for what: addresses, tokens, origins, orders, files."""

import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.feeds import (
    DEADLINE_S,
    Feeder,
    ask,
    status,
    wait_until,
)
from vpipe.errors import ResourceError, UsageError, VpipeError
from vpipe_mask.client import subscribe, watch
from vpipe_mask.server import FeedServer, ServerConfig, parse_serve

TOKEN = "correct-horse-battery-staple"


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

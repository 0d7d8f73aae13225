"""The feed server's page in a real browser: at any media time comments are behind the people of that very picture.

Clip, masks and comments are those of tests/products/walker.py, where every pixel is known.
"""

import contextlib
import itertools
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from tests.browser import Browser, require_browser
from tests.feeds import INFO, Feeder, ask, wait_until
from tests.products.walker import (
    FPS,
    HEIGHT,
    PERIOD_S,
    PERSON_WIDTH,
    SECONDS,
    SPEED,
    WALL,
    WIDTH,
    colour,
    left_edge,
    look,
    look_until,
    make_clip,
    seek,
    send_whole_clip,
    settle,
    walker,
)
from vpipe_mask.server import FeedServer, ServerConfig

pytestmark = pytest.mark.usefixtures("needs_browser")

ROW = 19
"""Height of the first lane's middle, pixels of the video."""


@pytest.fixture(scope="module")
def needs_browser() -> None:
    require_browser()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("page") / "walker.mp4")


@pytest.fixture(scope="module")
def comments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wall of white, at the top from the first to the last second."""
    path = tmp_path_factory.mktemp("page") / "wall.jsonl"
    rows = [{"time_s": 4.0 * n, "text": WALL, "mode": "top", "color": "#ffffff"} for n in range(SECONDS // 4 + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def server(clip: Path, comments: Path) -> Iterator[FeedServer]:
    config = ServerConfig(host="127.0.0.1", videos={"*": str(clip)}, comments={"*": str(comments)})
    with FeedServer(config) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser(1280, 1000) as running:
        yield running
        # That pixels are read is the test's own doing.
        assert [each for each in running.complaints if "willReadFrequently" not in each] == []


@contextlib.contextmanager
def live(server: FeedServer) -> Iterator[Feeder]:
    """Masks at their own pace, until the end of the block; stopped by `feeder.stop`."""
    feeder = Feeder(server, look=walker)
    feeder.tell("live")
    stop = threading.Event()

    def walk() -> None:
        began = time.monotonic()
        for index in range(FPS * SECONDS):
            if stop.wait(max(0.0, began + index / FPS - time.monotonic())):
                return
            with contextlib.suppress(BlockingIOError, AssertionError):
                feeder.send(index / FPS)

    thread = threading.Thread(target=walk)
    thread.start()
    try:
        yield feeder
    finally:
        stop.set()
        thread.join()


def open_page(browser: Browser, server: FeedServer, query: str = "") -> None:
    browser.visit(f"{server.url}{query}")
    browser.wait_for("document.querySelector('#stage').dataset.ready === 'true' && video.readyState >= 2")


def stage(browser: Browser, tmp_path: Path) -> np.ndarray:
    return look(browser, "#stage", tmp_path)


def expect_behind(picture: np.ndarray, media_time: float) -> None:
    """The comment is beside the person and not on the person."""
    left = left_edge(media_time)
    right = left + PERSON_WIDTH
    for x in (left - 30, left - 8, right + 8, right + 60):
        assert colour(picture[ROW, x]) == "comment", f"beside the person at {x}, {media_time} s"
    for x in (left + 8, (left + right) // 2, right - 8):
        assert colour(picture[ROW, x]) == "person", f"on the person at {x}, {media_time} s"
    assert colour(picture[150, (left + right) // 2]) == "person"
    assert colour(picture[150, right + 40]) == "ground"


def expect_behind_between_bars(picture: np.ndarray, media_time: float, across: float) -> None:
    """As `expect_behind`; where the window is low the stage is wider than the video, which is `across` of it."""
    bars = round(WIDTH * (1 - across) / 2)
    whole = cv2.resize(picture[:, bars : WIDTH - bars], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    expect_behind(whole, media_time)


def expect_everywhere(picture: np.ndarray) -> None:
    for x in range(20, WIDTH - 20, 10):
        assert colour(picture[ROW, x]) == "comment"


# comments and people


def test_comments_are_behind_the_person_of_the_very_picture_also_after_seeks(
    server: FeedServer, browser: Browser, tmp_path: Path
) -> None:
    send_whole_clip(server)
    open_page(browser, server)
    for media_time in (1.0, 4.52, 0.36, 7.8, 7.76, 3.0):
        shown = seek(browser, media_time + 0.01)
        assert abs(shown - media_time) < 0.02
        settle(browser)
        look_until(expect_behind, shown, browser=browser, folder=tmp_path)


def test_playing_comments_never_flash_over_the_person(server: FeedServer, browser: Browser) -> None:
    send_whole_clip(server)
    open_page(browser, server)
    seek(browser, 0.5)
    settle(browser)
    # At every tick of the screen: how much of the comment is where the person is in the picture that is shown.
    seen = browser.evaluate(
        f"""new Promise(async (done) => {{
            const canvas = document.querySelector("#comments");
            const context = canvas.getContext("2d");
            const seen = [];
            let media = null;
            const shown = (_, {{ mediaTime }}) => {{ media = mediaTime; video.requestVideoFrameCallback(shown); }};
            video.requestVideoFrameCallback(shown);
            const until = performance.now() + 3000;
            await video.play();
            const tick = () => {{
                if (media !== null) {{
                    const scale = canvas.width / {WIDTH};
                    const left = 40 + {SPEED} * (media % {PERIOD_S});
                    const y = Math.round({ROW} * scale);
                    const alpha = (x) => context.getImageData(Math.round(x * scale), y, 1, 1).data[3];
                    const right = left + {PERSON_WIDTH};
                    seen.push([media, alpha(left + 12), alpha(right - 12), alpha(right + 12)]);
                }}
                if (performance.now() < until) requestAnimationFrame(tick);
                else done(seen);
            }};
            requestAnimationFrame(tick);
        }})"""
    )
    assert len({media for media, *_ in seen}) > 10
    assert {(one, two) for _, one, two, _ in seen} == {(0, 0)}
    assert {beside for *_, beside in seen} == {255}


def test_switches_take_masks_and_comments_away(server: FeedServer, browser: Browser, tmp_path: Path) -> None:
    send_whole_clip(server)
    open_page(browser, server)
    shown = seek(browser, 2.01)
    settle(browser)
    look_until(expect_behind, shown, browser=browser, folder=tmp_path)
    browser.click("label:has(#masks)")
    settle(browser)
    look_until(expect_everywhere, browser=browser, folder=tmp_path)
    browser.press("Escape")
    browser.click("label:has(#show)")
    settle(browser)
    picture = stage(browser, tmp_path)
    assert {colour(picture[ROW, x]) for x in range(20, WIDTH - 20, 10)} <= {"person", "ground"}
    browser.click("label:has(#masks)")
    browser.click("label:has(#show)")
    settle(browser)
    look_until(expect_behind, shown, browser=browser, folder=tmp_path)


def test_picture_without_a_mask_of_its_time_shows_comments_everywhere(
    server: FeedServer, browser: Browser, tmp_path: Path
) -> None:
    feeder = Feeder(server, look=walker)
    feeder.tell("live")
    for index in range(50):
        feeder.send(index / FPS, applied=not 1.0 <= index / FPS < 1.5)
    feeder.tell("ended")
    wait_until(lambda: ask(server, "/streams/cam1").json["state"] == "ended", "the masks")
    open_page(browser, server)
    for media_time, masked in ((0.8, True), (1.2, False), (1.8, True), (2.2, True), (2.6, False), (6.0, False)):
        shown = seek(browser, media_time + 0.01)
        settle(browser)
        if masked and shown < 2:  # later it is the last mask, where the person was then
            look_until(expect_behind, min(shown, 49 / FPS), browser=browser, folder=tmp_path)
        elif not masked:
            look_until(expect_everywhere, browser=browser, folder=tmp_path)


def test_window_of_another_shape_changes_nothing(server: FeedServer, browser: Browser, tmp_path: Path) -> None:
    send_whole_clip(server)
    open_page(browser, server)
    shown = seek(browser, 3.01)
    for size in ((500, 900), (1600, 620)):
        browser.show(*size)
        settle(browser)
        width, height = browser.evaluate("[video.clientWidth, video.clientHeight]")
        across = min(width / WIDTH, height / HEIGHT) * WIDTH / width
        look_until(expect_behind_between_bars, shown, across, browser=browser, folder=tmp_path)


# live


HEARD = """
    // When the page itself heard of the feed last, by whichever of its connections.
    globalThis.heard = performance.now();
    globalThis.WebSocket = class extends WebSocket {
        constructor(...address) {
            super(...address);
            this.addEventListener("message", ({ data }) => {
                if (typeof data !== "string") heard = performance.now();
            });
        }
    };"""

WATCH = f"""(() => {{
    // What is over the person, and how long ago the page had heard of the feed then.
    const canvas = document.querySelector("#comments");
    const context = canvas.getContext("2d");
    globalThis.watched = [];
    let media = 0;
    const shown = (_, {{ mediaTime }}) => {{ media = mediaTime; video.requestVideoFrameCallback(shown); }};
    video.requestVideoFrameCallback(shown);
    const tick = (now) => {{
        const scale = canvas.width / {WIDTH};
        const x = Math.round((40 + {SPEED} * (media % {PERIOD_S}) + {PERSON_WIDTH // 2}) * scale);
        watched.push([now - heard, context.getImageData(x, Math.round({ROW} * scale), 1, 1).data[3]]);
        requestAnimationFrame(tick);
    }};
    requestAnimationFrame(tick);
}})()"""


@pytest.mark.parametrize("loss", [signal.SIGSTOP, signal.SIGKILL], ids=["silence", "death"])
def test_lost_feed_shows_comments_within_500_ms(server: FeedServer, browser: Browser, loss: signal.Signals) -> None:
    with live(server):
        wait_until(lambda: ask(server, "/streams/cam1").json["figures"]["masks"] > 25, "masks")
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=HEARD)
        open_page(browser, server)
        browser.evaluate(WATCH)
        browser.wait_for("!video.paused && watched.length > 30 && watched.slice(-10).every(([, alpha]) => alpha === 0)")
        process = psutil.Process(server._process.pid)
        process.send_signal(loss)
        try:
            # A server that died is back some time after; by then the page asks for it 250 or 750 ms after the loss.
            browser.wait_for("watched.some(([since]) => since > 700)")
            watched = browser.evaluate("watched")
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        after = [entry for entry in watched if entry[0] > 100]
        # A tick that comes late by itself is excused once, so the one before must have been able to see it.
        late = [alpha for (before, _), (since, alpha) in itertools.pairwise(after) if since >= 500 and before >= 400]
        assert late
        assert set(late) == {255}
        # It comes back by itself.
        browser.wait_for("watched.length > 30 && watched.slice(-5).every(([, alpha]) => alpha === 0)")
    browser.complaints[:] = [each for each in browser.complaints if "WebSocket" not in each and "ERR_" not in each]


def test_live_page_follows_the_feed_and_shows_its_figures(server: FeedServer, browser: Browser) -> None:
    with live(server):
        other = Feeder(server, 1, "cam2")
        other.tell("down", reason="connection refused")
        wait_until(lambda: ask(server, "/streams/cam1").json["figures"]["masks"] > 100, "masks")
        open_page(browser, server)
        browser.wait_for("!video.paused && video.currentTime > 1")
        browser.wait_for("/\\d+ ms/.test(figures.innerText.replace(/\\s+/g, ' '))")
        browser.wait_for("figures.innerText.includes('comments go behind people')")
        told = browser.evaluate("figures.innerText.replace(/\\s+/g, ' ')")
        rate = float(re.search(r"Masks ([\d.]+) ?/s", told)[1])
        assert 5 < rate < 40
        assert re.search(r"Feed [\d.]+ ?k?B/s \d+ bytes a mask", told)
        assert browser.evaluate("state.innerText") == "640\u00d7360 live"
        # Back in time, and back to what is live.
        browser.press("ArrowLeft")
        browser.wait_for("!live.hidden")
        behind = browser.evaluate("video.currentTime")
        browser.click("#live")
        browser.wait_for(f"live.hidden && video.currentTime > {behind} + 2")
        # Once let go of it stays where it is put; otherwise it keeps to the masks.
        browser.evaluate("video.currentTime = 0")
        browser.wait_for(f"video.currentTime > {behind} + 2")
        browser.click("#streams button:nth-child(2)")
        browser.wait_for("state.innerText.includes('no signal: connection refused')")
        browser.wait_for("location.hash === '#cam2'")


def test_page_that_is_there_before_the_stream_begins_with_it_wherever_its_time_begins(
    server: FeedServer, browser: Browser, tmp_path: Path
) -> None:
    other = Feeder(server, 0, "cam0")
    other.tell("connecting", info=None)
    feeder = Feeder(server, 1, look=lambda pts_s: walker(pts_s - 5000))
    feeder.tell("connecting", info=None)
    wait_until(lambda: ask(server, "/streams/cam1").status == 200, "the stream")
    open_page(browser, server)
    browser.wait_for("state.innerText === 'connecting' && location.hash === '#cam0'")
    feeder.epoch = 1
    feeder.tell("live", info={**INFO, "start_pts": 5_000_000})
    for index in range(60):
        feeder.send(5000 + index / FPS)
    browser.wait_for("location.hash === '#cam1' && !video.paused && video.currentTime > 1.5")
    feeder.tell("ended")
    browser.wait_for("state.innerText.includes('ended')")
    shown = seek(browser, 1.01)
    settle(browser)
    look_until(expect_behind, shown, browser=browser, folder=tmp_path)


def test_page_without_a_video_draws_people_by_their_outlines(browser: Browser, tmp_path: Path) -> None:
    with FeedServer(ServerConfig(host="127.0.0.1")) as server, live(server):
        wait_until(lambda: ask(server, "/streams/cam1").status == 200, "the stream")
        browser.visit(str(server.url))
        browser.wait_for("document.querySelector('#stage').dataset.ready === 'true'")
        browser.wait_for("notice.innerText.includes('--video')")
        browser.wait_for(
            "(() => { const at = [people.width / 2, people.height / 2, 1, 1];"
            " return people.getContext('2d').getImageData(...at).data[2] > 80; })()"
        )


# who may look


def test_page_asks_for_its_token(clip: Path, browser: Browser) -> None:
    token = "correct-horse-battery-staple"
    with FeedServer(ServerConfig(host="127.0.0.1", token=token, videos={"*": str(clip)})) as server:
        feeder = Feeder(server, look=walker)
        feeder.tell("ended")
        browser.visit(str(server.url))
        browser.wait_for("notice.innerText.includes('token')")
        assert any("401" in each for each in browser.complaints)
        browser.complaints.clear()
        open_page(browser, server, f"?token={token}")
        assert browser.evaluate("video.videoWidth") == WIDTH


def test_text_of_comments_and_names_is_never_markup(clip: Path, browser: Browser, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"
    path = tmp_path / "hostile.jsonl"
    path.write_text(json.dumps({"time_s": 0, "text": hostile}) + "\n")
    with FeedServer(ServerConfig(host="127.0.0.1", videos={"*": str(clip)}, comments={"*": str(path)})) as server:
        feeder = Feeder(server, name="a b'<i>")
        feeder.tell("down", reason=hostile, url=hostile)
        wait_until(lambda: ask(server, "/streams").json["streams"], "the stream")
        open_page(browser, server)
        browser.wait_for("state.innerText.includes('onerror')")
        assert browser.evaluate("document.title") == "vpipe mask"
        assert browser.evaluate("document.querySelectorAll('#streams i, img').length") == 0

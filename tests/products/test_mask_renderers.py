"""Comment renderers that others wrote, driven as docs/how-to/mask-renderers.md shows: their comments are masked.

The pages are the documentation's own blocks; the renderers come from npm (`scripts/test` installs tests/renderers).
"""

import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from tests.browser import Browser, require_browser
from tests.media import ffmpeg
from tests.products.walker import (
    PERSON_WIDTH,
    SECONDS,
    WALL,
    WIDTH,
    colour,
    left_edge,
    look_until,
    make_clip,
    seek,
    send_whole_clip,
    settle,
)
from tests.unit.test_docs import blocks
from vpipe_mask.server import FeedServer, ServerConfig

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "tests/renderers/node_modules"
SERVER = "http://127.0.0.1:8800/"
"""As the documentation writes it."""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files as a CDN does: to pages of any origin."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Someone's own site: a folder, and its origin."""
    require_browser()
    if not MODULES.is_dir() and not os.environ.get("CI"):
        pytest.skip("the renderers are not installed; scripts/test does it (npm install --prefix tests/renderers)")
    folder = tmp_path_factory.mktemp("site")
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "favicon.ico").touch()
    wall = "\N{FULL BLOCK}" * 30
    (folder / "comments.json").write_text(json.dumps([{"text": wall, "time": time} for time in range(SECONDS)]))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["danmaku", "niconicomments"])
def test_comments_of_others_are_masked(site: tuple[Path, str], name: str, tmp_path: Path) -> None:
    folder, origin = site
    page = next(
        block.text
        for block in blocks(ROOT / "docs/how-to/mask-renderers.md")
        if block.marks.get("file") == f"{name}.html"
    )
    clip = make_clip(tmp_path / "walker.mp4")
    config = ServerConfig(host="127.0.0.1", origins=(origin,), videos={"*": str(clip)})
    with FeedServer(config) as server, Browser(700, 420) as browser:
        send_whole_clip(server)
        assert SERVER in page
        page = page.replace("clip.mp4", f"{server.url}streams/cam1/video").replace(SERVER, str(server.url))
        (folder / f"{name}.html").write_text(page)
        browser.visit(f"{origin}/{name}.html")
        for media_time in (1.5, 4.5):  # the second after a seek
            browser.evaluate(
                f"new Promise((done) => {{ video.onseeked = done; video.currentTime = {media_time - 0.6}; }})"
            )
            browser.evaluate("video.play()")  # renderers let comments go only while it plays
            browser.wait_for(f"video.currentTime >= {media_time}")
            browser.evaluate("video.pause()")
            settle(browser)
            shown = browser.evaluate("video.currentTime")
            look_until(expect_masked, shown, browser=browser, selector="#video", folder=tmp_path)
        unrelated = ("willReadFrequently", "WebGL", "GPU stall")  # the renderers' own
        assert [each for each in browser.complaints if not any(word in each for word in unrelated)] == []


@pytest.mark.parametrize("start_s", [0.0, 5000.0])
def test_masks_are_in_step_with_hls_whatever_its_first_pts(
    site: tuple[Path, str], start_s: float, tmp_path: Path
) -> None:
    folder, origin = site
    clip = make_clip(tmp_path / "walker.mp4")
    name = f"hls-{start_s:.0f}"
    ffmpeg(
        *("-i", str(clip), "-c", "copy", "-output_ts_offset", str(start_s), "-muxdelay", "0", "-muxpreload", "0"),
        *("-f", "hls", "-hls_time", "2", "-hls_list_size", "0", str(folder / f"{name}.m3u8")),
    )
    wall = tmp_path / "wall.jsonl"
    rows = [{"time_s": 4.0 * n, "text": WALL, "mode": "top", "color": "#ffffff"} for n in range(SECONDS // 4)]
    wall.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = ServerConfig(
        host="127.0.0.1",
        videos={"*": f"{origin}/{name}.m3u8"},
        comments={"*": str(wall)},
        hls_js=str(MODULES / "hls.js/dist/hls.min.js"),
    )
    with FeedServer(config) as server, Browser(1280, 1000) as browser:
        send_whole_clip(server, first_pts_s(folder / f"{name}0.ts"))
        browser.visit(str(server.url))
        browser.wait_for("document.querySelector('#stage').dataset.ready === 'true' && video.readyState >= 2")
        for media_time in (1.01, 6.53):
            shown = seek(browser, media_time)
            settle(browser)
            look_until(expect_masked, shown, browser=browser, folder=tmp_path)
        assert browser.complaints == []


def first_pts_s(path: Path) -> float:
    """When the first picture of a file is shown, by its own clock."""
    with av.open(str(path)) as media:
        return min(float(packet.pts * packet.time_base) for packet in media.demux(video=0) if packet.pts is not None)


def expect_masked(picture: np.ndarray, media_time: float) -> None:
    """The comments' rows are white beside the person, and the person's own on it."""
    left = left_edge(media_time)
    right = left + PERSON_WIDTH
    beside = [x for x in range(WIDTH // 2 - 100, WIDTH // 2 + 180) if not left - 10 <= x <= right + 10]
    white = np.array([[colour(picture[y, x]) == "comment" for x in beside] for y in range(0, 120)])
    rows = np.flatnonzero(white.mean(axis=1) > 0.5)
    assert len(rows) >= 3, "there is a comment"
    for y in rows:
        for x in range(left + 10, right - 10, 5):
            assert colour(picture[y, x]) == "person", f"{x}, {y} at {media_time} s"

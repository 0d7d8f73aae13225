"""The feed's module in a real browser: what it cuts is where Python says that people are."""

import contextlib
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.browser import Browser, require_browser
from tests.mask_vectors import frame, speaker
from vpipe_mask.code import Encoder, MaskFrame
from vpipe_mask.outline import fill, trace

STATIC = Path(__file__).resolve().parents[2] / "pipelines" / "vpipe_mask" / "server" / "static"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A page that knows the module as `feed` and a canvas."""
    require_browser()
    handler = functools.partial(Quiet, directory=str(STATIC))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, contextlib.ExitStack() as things:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        things.callback(server.shutdown)
        browser = things.enter_context(Browser(800, 600))
        browser.visit(f"http://127.0.0.1:{server.server_port}/mask-feed.js")
        browser.evaluate(
            'import("/mask-feed.js").then((module) => { globalThis.feed = module;'
            ' document.body.innerHTML = `<div id="layer"></div>`; document.body.style = "margin: 0; background: #000";'
            " globalThis.canvas = new OffscreenCanvas(640, 400);"
            ' globalThis.context = canvas.getContext("2d", { willReadFrequently: true });'
            " globalThis.decoded = (hex) => new feed.Decoder().decode("
            "Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16))); })"
        )
        yield browser


def show(browser: Browser, mask: MaskFrame) -> None:
    browser.evaluate(f"globalThis.mask = decoded({json.dumps(Encoder().encode(mask).hex())}), 0")


def left_by_cut(browser: Browser, box: dict[str, float]) -> NDArray[np.uint8]:
    """Paint the canvas, cut the mask out, and return what is left: (400, 640), 255 where it is opaque."""
    text = browser.evaluate(
        'context.fillStyle = "#f00", context.fillRect(0, 0, 640, 400),'
        f" feed.cut(context, mask, {json.dumps(box)}), context.globalCompositeOperation +"
        " context.getImageData(0, 0, 640, 400).data.filter((_, at) => at % 4 === 3).join()"
    )
    assert text.startswith("source-over")
    return np.array(text.removeprefix("source-over").split(","), np.uint8).reshape(400, 640)


def on_canvas(mask: NDArray[np.uint8], x: int = 0, y: int = 20) -> NDArray[np.uint8]:
    """A mask of the picture, where it lies on the canvas; what is beyond the canvas is lost."""
    out = np.zeros((1200, 1940), np.uint8)
    out[400 + y : 400 + y + mask.shape[0], 650 + x : 650 + x + mask.shape[1]] = mask
    return out[400:800, 650:1290]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(a & b) / np.count_nonzero(a | b))


BOX = {"x": 0, "y": 20, "width": 640, "height": 360}


def test_a_cut_takes_the_people_and_nothing_else(browser: Browser) -> None:
    show(browser, frame(trace(speaker())))
    left = left_by_cut(browser, BOX)
    assert iou(left < 128, on_canvas(fill(trace(speaker()), 640, 360)) > 0) > 0.998


def test_a_hole_in_a_person_is_not_taken(browser: Browser) -> None:
    ring = speaker()
    cv2.circle(ring, (128, 110), 20, 0, cv2.FILLED)
    show(browser, frame(trace(ring)))
    left = left_by_cut(browser, BOX)
    assert left[20 + 275, 320] == 255
    assert iou(left < 128, on_canvas(fill(trace(ring), 640, 360)) > 0) > 0.998


def test_a_turned_mask_lies_as_the_player_shows_the_picture(browser: Browser) -> None:
    outline = trace(speaker())
    for rotation, turn in ((90, cv2.ROTATE_90_CLOCKWISE), (180, cv2.ROTATE_180), (270, cv2.ROTATE_90_COUNTERCLOCKWISE)):
        show(browser, frame(outline, rotation=rotation))
        upright = np.asarray(cv2.rotate(fill(outline, 640, 360), turn))
        expected = np.asarray(cv2.resize(upright, (640, 360), interpolation=cv2.INTER_NEAREST))
        assert iou(left_by_cut(browser, BOX) < 128, on_canvas(expected) > 0) > 0.99


def test_bars_of_the_grid_are_not_laid_over_the_picture(browser: Browser) -> None:
    show(browser, frame(trace(speaker()), rect=(0.25, 0.0, 0.5, 1.0)))
    left = left_by_cut(browser, BOX)
    assert iou(left < 128, on_canvas(fill(trace(speaker()), 1280, 360), x=-320) > 0) > 0.998


def test_a_mask_that_is_not_applied_cuts_nothing(browser: Browser) -> None:
    show(browser, frame(trace(speaker()), applied=False))
    assert (left_by_cut(browser, BOX) == 255).all()


def test_a_clipped_element_is_shown_beside_the_people_only(browser: Browser, tmp_path: Path) -> None:
    show(browser, frame(trace(speaker())))
    layer = "document.querySelector('#layer')"
    browser.evaluate(f"{layer}.style = 'width: 640px; height: 400px; background: #f00'")

    def seen() -> NDArray[np.uint8]:
        browser.screenshot(tmp_path / "page.png")
        picture = cv2.imread(str(tmp_path / "page.png"))
        assert picture is not None
        return np.asarray(picture[:400, :640, 2], np.uint8)

    browser.evaluate(f"feed.clip({layer}, mask, feed.fitted(640, 400, 1920, 1080)), 0")
    assert iou(seen() < 128, on_canvas(fill(trace(speaker()), 640, 360)) > 0) > 0.998
    browser.evaluate(f"feed.clip({layer}, null), 0")
    assert (seen() == 255).all()

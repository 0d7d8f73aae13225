"""A clip and the masks of its person, both known to the pixel, and the server and browser that show them.

The person is a green rectangle that walks to the right over blue; comments are white. So a pixel is the person's, the
comment's or the ground's, and nothing else.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.browser import Browser
from tests.feeds import Feeder, ask, wait_until
from tests.media import encode
from vpipe_mask.outline import Outline, trace
from vpipe_mask.server import FeedServer

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 25, 32
PERSON_WIDTH, PERSON_HEIGHT = 160, 300
SPEED = 40
"""Pixels of the video a second."""
PERIOD_S = 8
"""Then the person is back at the left."""
WALL = "\N{FULL BLOCK}" * 80
"""A comment that reaches from edge to edge."""


def left_edge(pts_s: float) -> int:
    """Where the person begins at a time, pixels of the video."""
    return int(40 + SPEED * (pts_s % PERIOD_S))


def walker(pts_s: float) -> Outline:
    """The person's outline at a time."""
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:PERSON_HEIGHT, left_edge(pts_s) : left_edge(pts_s) + PERSON_WIDTH] = 255
    return trace(alpha)


def make_clip(path: Path) -> Path:
    """Write the clip, H.264 with B-frames, a keyframe a second."""
    person = f"color=c=0x28b45a:s={PERSON_WIDTH}x{PERSON_HEIGHT}:r={FPS}:d={SECONDS}[p]"
    ground = f"color=c=0x203878:s={WIDTH}x{HEIGHT}:r={FPS}:d={SECONDS}"
    source = f"{person};{ground}[g];[g][p]overlay=x='40+{SPEED}*mod(t,{PERIOD_S})':y=0"
    encode(path, source, "-c:v libx264 -preset veryfast -pix_fmt yuv420p -crf 12 -g 25 -bf 2")
    return path


def send_whole_clip(server: FeedServer, first_pts_s: float = 0.0) -> Feeder:
    """Send the masks of all frames, and that there will be no more."""
    feeder = Feeder(server, look=lambda pts_s: walker(pts_s - first_pts_s))
    feeder.tell("live")
    for index in range(FPS * SECONDS):
        feeder.send(first_pts_s + index / FPS)
    feeder.tell("ended")
    wait_until(lambda: ask(server, "/streams/cam1").json["state"] == "ended", "the masks")
    return feeder


def seek(browser: Browser, media_time: float) -> float:
    """Show the picture of a media time, and return the time that the browser gives it."""
    # A picture from before the seek may still be on its way to the screen.
    shown: float = browser.evaluate(
        f"""new Promise((done) => {{
            const look = (_, {{ mediaTime }}) => {{
                if (Math.abs(mediaTime - {media_time}) < {1.5 / FPS}) done(mediaTime);
                else video.requestVideoFrameCallback(look);
            }};
            video.pause();
            video.requestVideoFrameCallback(look);
            video.currentTime = {media_time};
        }})"""
    )
    return shown


def settle(browser: Browser) -> None:
    """Wait until a cut has come or gone."""
    browser.evaluate(
        "new Promise((done) => setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 300))"
    )


def look(browser: Browser, selector: str, folder: Path) -> np.ndarray:
    """What the viewer sees where an element is, (HEIGHT, WIDTH, 3) BGR: pixels of the video, whatever the window."""
    x, y, width, height = (round(value) for value in browser.box(selector))
    browser.screenshot(folder / "page.png")
    page = cv2.imread(str(folder / "page.png"))
    return cv2.resize(page[y : y + height, x : x + width], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def look_until(
    expect: Callable[..., None], *about: float, browser: Browser, selector: str = "#stage", folder: Path
) -> None:
    """Look until `expect(picture, *about)` passes; after ten seconds its failure counts.

    Chromium puts video on the screen by a way of its own. Where a seek comes just as it begins to play, the picture of
    before may stay for a second or two, though the element has the new one (drawn on a canvas it is the new one) and
    what lies over it is drawn for that.
    """
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(AssertionError):
            return expect(look(browser, selector, folder), *about)
        time.sleep(0.2)
    return expect(look(browser, selector, folder), *about)


def colour(pixel: np.ndarray) -> str:
    """Whose a pixel is: `comment`, `person`, `ground`; or its value, where it is none of them."""
    blue, green, red = (int(value) for value in pixel)
    if min(blue, green, red) > 180:
        return "comment"
    if green > 120 and red < 110:
        return "person"
    if blue > 80 and green < 110 and red < 90:
        return "ground"
    return f"b{blue} g{green} r{red}"

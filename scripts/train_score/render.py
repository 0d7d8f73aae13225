"""Renders a content: a picture in slow motion with stamps moving over it, a film's frames, or a drawn screen."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sources import FRAMES, MIN_SCALE, Content, split_of


@functools.lru_cache(maxsize=2)
def _picture(path: str) -> NDArray[np.uint8]:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:  # transparent: over a mid grey
        alpha = image[..., 3:].astype(np.float32) / 255
        image = (image[..., :3] * alpha + 110 * (1 - alpha)).astype(np.uint8)
    return image


def _sprites(work: Path, content: Content) -> list[Path]:
    """Stamps that this content's side of the split may use."""
    stamps = sorted((work / "x/tuxpaint-stamps-default").rglob("*.png"))
    unwanted = ("symbols", "/flags", "roadsigns", "mirror", "flip")
    return [
        p
        for p in stamps
        if p.stat().st_size > 40_000 and not any(u in str(p) for u in unwanted) and split_of(p.stem) == content.split
    ]


def _path_of_motion(content: Content, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return per frame: x, y (output pixels), zoom, angle (radians)."""
    t = np.arange(FRAMES, dtype=np.float64) - FRAMES // 2
    motion = np.zeros((FRAMES, 4))
    motion[:, 2] = 1.0
    kind = rng.choice(["still", "pan", "zoom", "turn", "shake"], p=[0.08, 0.5, 0.18, 0.1, 0.14])
    speed = float(np.clip(rng.lognormal(0.7, 1.1), 0.1, 24.0)) * content.size[0] / 1280
    heading = rng.uniform(0, 2 * np.pi)
    if kind in ("pan", "shake"):
        motion[:, 0] = t * speed * np.cos(heading)
        motion[:, 1] = t * speed * np.sin(heading) * 0.6
    if kind == "zoom":
        motion[:, 2] = np.exp(t * rng.choice([-1, 1]) * rng.uniform(0.001, 0.012))
    if kind == "turn":
        motion[:, 3] = t * rng.choice([-1, 1]) * rng.uniform(0.001, 0.01)
    if kind == "shake":
        motion[:, :2] += rng.normal(0, 1.2, (FRAMES, 2))
    return motion


def _render_picture(work: Path, content: Content, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    x, y, width, height = content.box
    out_w, out_h = content.size
    picture = _picture(str(work / "x" / content.path))[y : y + height, x : x + width]
    room = min(width / out_w, height / out_h)
    scale = rng.uniform(max(MIN_SCALE, room * 0.75), max(MIN_SCALE, room / 1.05)) if room > MIN_SCALE else room
    if scale >= 3.2:  # halve first: the doubled warp below must not skip source pixels
        half = 2 ** int(np.log2(scale / 1.6))
        picture = cv2.resize(picture, None, fx=1 / half, fy=1 / half, interpolation=cv2.INTER_AREA)
        scale /= half
    motion = _path_of_motion(content, rng)
    middle = np.array([picture.shape[1] / 2, picture.shape[0] / 2])
    sprites = []
    if rng.random() < 0.45 and (choice := _sprites(work, content)):
        for _ in range(int(rng.integers(1, 5))):
            stamp = cv2.imread(str(choice[int(rng.integers(len(choice)))]), cv2.IMREAD_UNCHANGED)
            if stamp is None or stamp.ndim < 3 or stamp.shape[2] != 4:
                continue
            tall = out_h * rng.uniform(0.15, 0.45)
            shrink = min(tall / stamp.shape[0], 1 / 1.3)
            velocity = rng.normal(0, 4.0, 2) * out_w / 1280
            sprites.append((stamp, shrink, rng.uniform(0.1, 0.9, 2) * content.size, velocity))
    frames = []
    for step, (dx, dy, zoom, angle) in enumerate(motion):
        s = scale / 2 * zoom
        cos, sin = np.cos(angle) * s, np.sin(angle) * s
        offset = middle + np.array([dx, dy]) * scale - np.array([cos * out_w - sin * out_h, sin * out_w + cos * out_h])
        inverse = np.array([[cos, -sin, offset[0]], [sin, cos, offset[1]]])
        big = cv2.warpAffine(
            picture, inverse, (out_w * 2, out_h * 2), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        frame = cv2.resize(big, (out_w, out_h), interpolation=cv2.INTER_AREA)
        for stamp, shrink, place, velocity in sprites:
            at = place + velocity * (step - FRAMES // 2)
            matrix = np.array([[shrink, 0, at[0]], [0, shrink, at[1]]])
            small = cv2.warpAffine(stamp, matrix, (out_w, out_h), flags=cv2.INTER_AREA)
            alpha = small[..., 3:].astype(np.float32) / 255
            if alpha.any():
                frame = (small[..., :3] * alpha + frame * (1 - alpha)).astype(np.uint8)
        frames.append(frame)
    return frames


def _render_screen(content: Content, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Draw windows of text that scroll, and a pointer."""
    width, height = content.size
    dark = rng.random() < 0.5
    paper, ink = ((30, 30, 34), (210, 210, 205)) if dark else ((250, 250, 250), (30, 30, 30))
    tall = np.full((height * 2, width, 3), paper, np.uint8)
    size = float(rng.uniform(0.4, 0.9))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz    ____=()[]{}.,:;0123456789"))
    for row in range(int(30 * size), height * 2, int(34 * size)):
        indent = int(rng.integers(0, 5)) * 24
        text = "".join(rng.choice(letters, int(rng.integers(4, 70))))
        colour = tuple(int(v) for v in rng.integers(60, 255, 3)) if rng.random() < 0.3 else ink
        cv2.putText(tall, text, (20 + indent, row), int(rng.integers(0, 2)), size, colour, 1, cv2.LINE_AA)
    for _ in range(int(rng.integers(1, 5))):
        x, y = int(rng.integers(0, width - 80)), int(rng.integers(0, height * 2 - 80))
        box = (x, y, int(rng.integers(40, width // 2)), int(rng.integers(40, height // 3)))
        cv2.rectangle(tall, box, tuple(int(v) for v in rng.integers(0, 255, 3)), -1)
    speed = rng.choice([0.0, 0.5, 2.0, 7.3])
    frames = []
    for step in range(FRAMES):
        shift = np.array([[1, 0, 0], [0, 1, -step * speed]])
        frame = cv2.warpAffine(tall, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        tip = (int(width * 0.3 + step * 5.5), int(height * 0.5 + step * 2))
        cv2.fillPoly(frame, [np.array([tip, (tip[0] + 12, tip[1] + 12), (tip[0], tip[1] + 18)])], (255, 255, 255))
        frames.append(frame)
    return frames


def _render_real(work: Path, content: Content) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(work / "x" / content.path))
    frames = []
    for index in range(content.box[0] + FRAMES):
        found, frame = capture.read()
        if not found:
            raise ValueError(f"{content.path} ends at frame {index}")
        if index >= content.box[0]:
            frames.append(cv2.resize(frame, content.size, interpolation=cv2.INTER_AREA))
    return frames


def _as_cameras_do(frames: list[NDArray[np.uint8]], rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Return a photograph in motion as a camera may deliver it: a soft lens or shallow focus, sharpened or not."""
    height, width = frames[0].shape[:2]
    soft = float(np.exp(rng.uniform(np.log(0.35), np.log(1.1))))
    shallow = rng.random() < 0.5
    if shallow:  # what is out of focus: a few large spots
        coarse = rng.normal(0, 1, (4, 6)).astype(np.float32)
        blurred = np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + 0.5, 0, 1)[..., None]
        far = float(rng.uniform(1.5, 4.0)) * width / 1280 + 0.5
    sharpen = float(rng.uniform(0.2, 0.9)) if rng.random() < 0.4 else 0.0
    found = []
    for frame in frames:
        near = cv2.GaussianBlur(frame, None, soft)
        if shallow:
            near = (near + (cv2.GaussianBlur(frame, None, far).astype(np.float32) - near) * blurred).astype(np.uint8)
        if sharpen:
            near = cv2.addWeighted(near, 1 + sharpen, cv2.GaussianBlur(near, None, 1.5), -sharpen, 0)
        found.append(near)
    return found


def render(work: Path, content: Content) -> NDArray[np.uint8]:
    """Return the pristine clip: uint8, (FRAMES, height * 3 / 2, width), planes Y, U, V of 4:2:0 in limited range."""
    rng = np.random.default_rng(content.seed)
    if content.kind == "real":
        frames = _render_real(work, content)
    elif content.kind == "screen":
        frames = _render_screen(content, rng)
    else:
        frames = _render_picture(work, content, rng)
    if content.look == 6:
        frames = _as_cameras_do(frames, rng)
    look = rng.random()
    table = np.arange(256, dtype=np.float32) / 255
    if content.kind in ("photo", "graphic"):
        if look < 0.12:
            table = table ** rng.uniform(1.5, 2.6)  # a dark scene
        elif look < 0.2:
            table = 0.5 + (table - 0.5) * rng.uniform(0.4, 0.75)  # haze
    lut = np.clip(table * 255 + 0.5, 0, 255).astype(np.uint8)
    clip = np.stack([cv2.cvtColor(cv2.LUT(f, lut), cv2.COLOR_BGR2YUV_I420) for f in frames])
    if grain_of(content) > 0:
        height = content.size[1]
        noise = rng.normal(0, grain_of(content), (FRAMES, height, content.size[0]))
        clip[:, :height] = np.clip(clip[:, :height] + noise + 0.5, 16, 235).astype(np.uint8)
    return clip


def grain_of(content: Content) -> float:
    """Return the deviation of the pristine clip's own grain, luma steps; 0 for most contents."""
    rng = np.random.default_rng(content.seed + 1)
    draw, amount = rng.random(), rng.uniform(1.0, 4.0)
    return amount if draw < 0.12 and content.kind in ("photo", "graphic") else 0.0

"""Messages of the mask feed with what they mean, for every decoder: tests/data/mask-feed-vectors.json.

A case is a list of messages for one fresh decoder. A message has its bytes in hexadecimal and either the frame that it
decodes to or `"error": true`. `python -m tests.mask_vectors` writes the file anew; a test holds the two together, so a
change of the code shows as a change of the file, which decoders out in the world know.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpipe_mask.code import WHOLE, Encoder, MaskFrame
from vpipe_mask.outline import Outline, trace
from vpipe_mask.wire import varints

FILE = Path(__file__).parent / "data" / "mask-feed-vectors.json"

Case = list[dict[str, Any]]


def speaker(turn: float = 0.0, width: int = 256, height: int = 144) -> NDArray[np.uint8]:
    """A soft mask of head and shoulders; `turn` moves the head, and only the head, that many pixels to the right."""
    mask = np.zeros((height, width), np.uint8)
    x = round(16 * (width / 2 + turn))
    cv2.ellipse(mask, (x, 16 * 50), (16 * 28, 16 * 36), 0, 0, 360, 255, cv2.FILLED, cv2.LINE_8, 4)
    cv2.ellipse(mask, (width * 8, 16 * 150), (16 * 80, 16 * 62), 0, 0, 360, 255, cv2.FILLED, cv2.LINE_8, 4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.5), np.uint8)


def polygons(*points: list[tuple[int, int]], width: int = 320, height: int = 180) -> Outline:
    return Outline(width, height, tuple(np.array(polygon, np.int16) for polygon in points))


def frame(outline: Outline, sequence: int = 0, **values: Any) -> MaskFrame:
    usual: dict[str, Any] = {
        "epoch": 1,
        "sequence": sequence,
        "pts_us": 33_367 * sequence,
        "duration_us": 33_367,
        "arrival_us": 1_790_000_000_000_000 + 33_367 * sequence,
        "rect": WHOLE,
        "rotation": 0,
        "applied": True,
        "outline": outline,
    }
    return MaskFrame(**usual | values)


def plain(mask: MaskFrame) -> dict[str, Any]:
    """A frame as JSON values."""
    values = {field.name: getattr(mask, field.name) for field in dataclasses.fields(mask)}
    outline = values.pop("outline")
    values["rect"] = list(values["rect"])
    return values | {
        "width": outline.width,
        "height": outline.height,
        "polygons": [polygon.ravel().tolist() for polygon in outline.polygons],
    }


def build() -> dict[str, Case]:
    """All cases by name."""
    square = [(400, 100), (400, 600), (800, 600), (800, 100)]
    hole = [(500, 200), (700, 200), (700, 400), (500, 400)]
    other = [(900, 300), (880, 700), (1280, 720), (1260, 290), (1100, 250)]
    empty, full = polygons(), polygons([(0, 0), (0, 720), (1280, 720), (1280, 0)])
    two = polygons(square, hole, other)
    moved = polygons(square, [(500, 200), (700, 200), (690, 410), (500, 400)], other[1:] + other[:1])
    cases: dict[str, Case] = {
        "nobody": encoded(frame(empty)),
        "everywhere": encoded(frame(full)),
        "two people, one with a hole; a part moves; a copy goes round its polygon": encoded(
            frame(two), frame(moved, 1)
        ),
        "someone leaves, someone comes": encoded(frame(two), frame(polygons(square, hole), 1), frame(two, 2)),
        "a head turns": encoded(*(frame(trace(speaker(turn)), i) for i, turn in enumerate((0, 0.5, 1, 3)))),
        "bars at the sides, turned, not applied": encoded(
            frame(two, rect=(8192 / 65535, 0.0, 49151 / 65535, 1.0), rotation=90, applied=False),
            frame(moved, 1, rect=(8192 / 65535, 0.0, 49151 / 65535, 1.0), rotation=270),
        ),
        "the largest numbers": encoded(
            frame(
                polygons([(0, 0), (0, 16384), (16384, 16384), (16384, 0)], width=4096, height=4096),
                epoch=2**32 - 1,
                sequence=2**32 - 1,
                pts_us=1 - 2**52,
                duration_us=2**53 - 1,
                arrival_us=2**53 - 1,
                rotation=180,
            )
        ),
        "a delta before its key": encoded(frame(two), frame(moved, 1))[1:],
        "the key before was lost": [
            *encoded(frame(two)),
            {"hex": encoded(frame(two, 5), frame(moved, 6))[1]["hex"], "error": True},
            *encoded(frame(two, 7), frame(moved, 8)),
        ],
        "the same key of another epoch": [
            *encoded(frame(two)),
            {"hex": encoded(frame(two, epoch=2), frame(moved, 1, epoch=2))[1]["hex"], "error": True},
        ],
    }
    cases["a delta before its key"][0] = {"hex": cases["a delta before its key"][0]["hex"], "error": True}
    (key,) = encoded(frame(full))
    whole = bytes.fromhex(key["hex"])
    head = whole[: whole.index(bytes(varints([320, 180]))) + 4]
    triangle = [6, 0, 0, 200, 0, 0, 200]
    for name, data in {
        "no bytes": b"",
        "another magic": b"MV" + whole[2:],
        "another version": whole[:2] + b"\2" + whole[3:],
        "an unknown flag": whole[:3] + bytes([whole[3] | 8]) + whole[4:],
        "a delta with a rectangle": whole[:3] + bytes([4]) + whole[4:],
        "cut off": whole[:-1],
        "a byte too many": whole + b"\0",
        "a number of nine bytes": whole[:4] + b"\x80" * 8 + b"\1",
        "a number of 54 bits": whole[:6] + b"\xff" * 7 + b"\x7f",
        "an epoch of 33 bits": whole[:4] + varints([2**32]) + whole[5:],
        "a grid of no width": head[:-4] + varints([0, 180, 0]),
        "a grid too wide": head[:-4] + varints([4097, 180, 0]),
        "a rectangle beyond the grid": whole[:3] + bytes([7]) + head[4:] + varints([60000, 0, 6000, 65535, 0]),
        "an empty rectangle": whole[:3] + bytes([7]) + head[4:] + varints([0, 0, 0, 65535, 0]),
        "256 polygons": head + varints([256]),
        "a polygon of no items": head + varints([1, 0]),
        "an item of no points": head + varints([1, 2, 0, *triangle]),
        "a polygon of two points": head + varints([1, 1, 4, 0, 0, 200, 0]),
        "more points than fit": head + varints([1, 1, 2 * 4097]),
        "points without their bytes": head + varints([1, 1, 2 * 4096]),
        "a point left of the grid": head + varints([1, 1, 6, 0, 0, 200, 0, 401, 0]),
        "a point below the grid": head + varints([1, 1, 6, 0, 0, 200, 0, 0, 1500]),
        "a copy in a key": head + varints([1, 1, 7, 0]),
    }.items():
        cases[name] = [{"hex": data.hex(), "error": True}]
    delta = head[:3] + b"\2" + varints([1, 1]) + head[6:-4] + varints([1])
    for name, body in {
        "a copy of a point that is not there": [1, 1, 7, 4],
        "a copy of more points than there are": [1, 1, 11, 0],
    }.items():
        cases[name] = [key, {"hex": (delta + varints(body)).hex(), "error": True}]
    return cases


def encoded(*frames: MaskFrame) -> Case:
    """Frames with their messages; the first is a key."""
    encoder = Encoder()
    return [{"hex": encoder.encode(each).hex(), "frame": plain(each)} for each in frames]


def text() -> str:
    """The file, a message a line."""
    cases = []
    for name, messages in build().items():
        lines = ",\n".join(json.dumps(message, separators=(",", ":")) for message in messages)
        cases.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(cases) + "\n}\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())

"""A mask in the forms that HTTP clients ask for: a message on its own, JSON, PNG; and comments as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vpipe_mask.code import Encoder, MaskFrame
from vpipe_mask.comments import read_comments
from vpipe_mask.outline import UNITS, fill
from vpipe_mask.server.feed import Mask

CODE_TYPE = "application/vnd.vpipe.mask"
KINDS = {"json": "application/json", "code": CODE_TYPE, "png": "image/png"}


def kind_of(wanted: str | None, accept: str) -> str | None:
    """Return `json`, `code` or `png`: what was asked for by name, or else by the Accept header; None: none of these."""
    if wanted is not None:
        return wanted if wanted in KINDS else None
    for entry in accept.split(","):
        for kind, media_type in KINDS.items():
            if entry.partition(";")[0].strip().lower() == media_type:
                return kind
    return "json"


def code(mask: Mask, frame: MaskFrame) -> bytes:
    """Return a message that stands for itself."""
    return mask.data if mask.base is None else Encoder().encode(frame, key=True)


def plain(frame: MaskFrame) -> dict[str, Any]:
    """Return plain values for JSON; polygons in pixels of the grid."""
    return {
        "epoch": frame.epoch,
        "sequence": frame.sequence,
        "pts": frame.pts_us / 1e6,
        "duration": frame.duration_us / 1e6,
        "arrival": frame.arrival_us / 1e6 or None,
        "rect": list(frame.rect),
        "rotation": frame.rotation,
        "applied": frame.applied,
        "width": frame.outline.width,
        "height": frame.outline.height,
        "polygons": [(polygon / UNITS).tolist() for polygon in frame.outline.polygons],
    }


def png(frame: MaskFrame) -> bytes:
    """Return a grey PNG of the grid's size: white is a person; black everywhere where the mask is not applied."""
    import cv2

    alpha = fill(frame.outline)
    done, data = cv2.imencode(".png", alpha if frame.applied else alpha * 0)
    assert done
    return data.tobytes()


def comments_json(path: Path) -> bytes:
    """Return a comment file as `{"comments": [{"time", "text", "mode", "color", "size"}, ...]}`."""
    found = [
        {"time": each.time_s, "text": each.text, "mode": each.mode, "color": f"#{each.color:06x}", "size": each.size}
        for each in read_comments(path)
    ]
    return json.dumps({"comments": found}, ensure_ascii=False).encode("utf-8", "replace")

"""What `vpipe mask` says of one video: a typed row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a file has no masks."""

    kind: str
    """One short word for machines."""
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class VideoMasks:
    """The masks of one video."""

    path: str
    status: Literal["masked", "failed"]
    error: Failure | None
    files: tuple[str, ...]
    """Names of the mask files in the output directory."""
    masks: int
    """Frames that have a mask; every frame has one, an empty one too."""
    applied: float
    """Share of the frames whose mask is not gated off, 0..1."""
    cover: float
    """Mean share of the picture that masks cover where they are applied, 0..1."""
    cuts: int
    """Scene cuts that the filter saw."""
    width: int | None
    """Of the video, pixels."""
    height: int | None
    codec: str | None
    duration_s: float | None
    model: str | None
    """Name and version."""
    key: str | None
    """Content key: the same for the same bytes."""
    settings_key: str | None
    """The same for the same model and settings."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> VideoMasks:
        """Build from an engine row of the mask pipeline."""
        failed = row["status"] == "failed"
        models = [model for model in (row.get("models") or {}).values() if model]
        return cls(
            path=row["path"],
            status="failed" if failed else "masked",
            error=Failure(row["error"]["kind"], row["error"]["message"]) if failed else None,
            files=tuple(row.get("files", ())),
            masks=int(row.get("masks", 0)),
            applied=float(row.get("applied", 0.0)),
            cover=float(row.get("cover", 0.0)),
            cuts=int(row.get("cuts", 0)),
            width=row.get("width"),
            height=row.get("height"),
            codec=row.get("codec"),
            duration_s=row.get("duration_s"),
            model=f"{models[0]['name']} {models[0]['version']}" if models else None,
            key=row.get("key"),
            settings_key=row.get("settings_key"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: a line of masks.jsonl."""
        return dataclasses.asdict(self)

"""`[branches.view]` of a pipeline file: what a branch asks of a frame, made inside the decode worker.

Plain dataclasses, unlike the rest of `vpipe.config` (which checks these too): decode workers are given one, and must
not pay for importing pydantic.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

Pixels = Annotated[int, Ge(1)]


@dataclasses.dataclass(frozen=True)
class PictureConfig:
    """`[branches.view.picture]`: a small colour picture that travels beside the view."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    width: Pixels = 160
    height: Pixels = 90
    every_s: Annotated[float, Ge(0)] = 0.0
    """At most one picture per so many seconds of the video's time; 0: with every frame."""


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """The view of one branch."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    kind: Literal["resize", "fragments"]
    width: Pixels | None = None
    """resize: the view's size; the model's own where none is given."""
    height: Pixels | None = None
    pixel: Literal["rgb", "bgr", "gray"] = "rgb"
    """resize: what the view holds; fragments are always luma."""
    grid: Annotated[int, Ge(1), Le(32)] = 7
    """fragments: patches along each side."""
    patch: Annotated[int, Ge(8), Le(256)] = 32
    """fragments: rows and columns of a patch."""
    pair: bool = False
    """fragments: also the same patches of the neighbour frame (the one before; for the first of a group, the next)."""
    mirror: bool = False
    """fragments: half of the frames, by their time, are shown mirrored: which side is left moves no result."""
    histogram: bool = False
    """Companion: 256-bin histogram of the view's luma (fragments: of the frame itself, not of its neighbour)."""
    luma: bool = False
    """Companion: the view's luma (resize only), limited range whatever the source's."""
    picture: PictureConfig | None = None
    """Companion: a small RGB picture."""

    def __post_init__(self) -> None:
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height are given together, or neither")
        for name in ("pair", "mirror"):
            if self.kind == "resize" and getattr(self, name):
                raise ValueError(f"{name} is for fragments views only")
        if self.kind == "fragments" and self.luma:
            raise ValueError("luma is for resize views only; fragments are luma")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ViewConfig:
        """Rebuild from `to_dict`'s values."""
        picture = values["picture"]
        return cls(**{**values, "picture": None if picture is None else PictureConfig(**picture)})

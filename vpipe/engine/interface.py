"""What goes into a model and what comes out: the tables `[[inputs]]`, `[[outputs]]` and `[[states]]` of a manifest.

All that lies between a model's own arrays and those that travel is told here and folded into the model when it is
compiled: type, layout, colour and scale on the way in; on the way out a segmentation network's *head*, so that
every such network, whatever it was made for, gives one plane of 0..1 (or 0..255) a frame.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, ClassVar, Literal

# Plain classes, checked by pydantic in `Manifest.load` only: a worker gets its manifest as plain values and must not
# spend a tenth of a second on importing pydantic.

DTYPES = {
    "u8": "|u1",
    "i8": "|i1",
    "u16": "<u2",
    "i32": "<i4",
    "i64": "<i8",
    "f16": "<f2",
    "f32": "<f4",
}
"""numpy type strings by the names that manifests (and OpenVINO) use."""

Dtype = Literal["u8", "i8", "u16", "i32", "i64", "f16", "f32"]
Color = Literal["rgb", "bgr"]
Head = Literal["none", "sigmoid", "softmax", "argmax"]


def check(good: object, message: str) -> None:
    """Refuse a value of a manifest.

    Raises:
        ValueError: It is not good; pydantic turns this into a message with the value's path.
    """
    if not good:
        raise ValueError(message)


def _check_shape(shape: tuple[int, ...]) -> None:
    good = shape and shape[0] == -1 and all(size >= 1 for size in shape[1:])
    check(good, "shape: the first size is the batch, -1, and every other one is a fixed number above 0")


def _check_layout(name: str, value: str | None) -> None:
    letters = value is None or (re.fullmatch("N[CDHW]+", value) and len(set(value)) == len(value))
    check(letters, f"{name}: {value!r} is not N and then some of C, D, H and W, once each")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input:
    """`[[inputs]]`: an array that goes into the model."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    """The model's own name of this input."""
    shape: tuple[int, ...]
    """Batch first, as -1; the others are fixed."""
    dtype: Dtype = "u8"
    """As the view delivers it; the model computes in its own type."""
    layout: str | None = None
    """Meaning of `shape`, for example NHWC; needed where anything below is given."""
    model_layout: str | None = None
    """The layout that the model itself wants, where that is not `layout`."""
    color: Color | None = None
    """Order of the channels as the view delivers them."""
    model_color: Color | None = None
    """Order of the channels that the model wants, where that is not `color`."""
    mean: tuple[float, ...] = ()
    """Subtracted first, in units of the input's values: one number, or one a channel."""
    scale: tuple[float, ...] = ()
    """Divided by, after `mean`: one number, or one a channel."""

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        axes = self.layout or ""
        _check_layout("layout", self.layout)
        _check_layout("model_layout", self.model_layout)
        check(not axes or len(axes) == len(self.shape), f"layout: {axes} has {len(axes)} axes, shape {len(self.shape)}")
        channels = self.shape[axes.index("C")] if "C" in axes else 1
        for name, numbers in (("mean", self.mean), ("scale", self.scale)):
            fits = len(numbers) in (0, 1, channels)
            check(fits, f"{name}: {len(numbers)} numbers for {channels} channels; give one, or one a channel")
        check(all(math.isfinite(n) and n != 0 for n in self.scale), "scale: divides, so it must not be 0")
        told = axes or not (self.model_layout or self.model_color)
        check(told, "layout: is needed to tell the channels from the rows")
        same = not self.model_layout or set(self.model_layout) - {"C"} == set(axes) - {"C"}
        check(same, f"model_layout: {self.model_layout} has other axes than layout {axes}")
        turned = not self.model_color or (self.color and channels == 3)
        check(turned, "model_color: needs color and three channels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """`[[outputs]]`: an array that comes out of the model.

    With a `head` it is a plane a frame, shape [-1, rows, columns]: how much of each pixel belongs to the wanted
    classes, 0..1 as `f32` or `f16`, 0..255 as `u8`. Where the model's own rows and columns are others, the plane is
    resized (linear, pixel centres kept).
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    """Under which it travels: the name of a field of `Batch.fields`."""
    shape: tuple[int, ...]
    """Batch first, as -1; the others are fixed."""
    dtype: Dtype = "f32"
    range: tuple[float, float] | None = None
    """Lowest and highest meaningful value."""
    labels: tuple[str, ...] = ()
    """Names of the last axis, one an entry."""
    tensor: str | None = None
    """The model's own name of this output, where that is not `name`."""
    head: Head | None = None
    """`none`: the values are 0..1 already; `sigmoid`: each is a logit; `softmax`: the channels are logits of classes
    that exclude one another (two-class networks too); `argmax`: 1 where a wanted class wins, or, without channels,
    where the value is a wanted class's number."""
    layout: str | None = None
    """Meaning of the model's own axes, for example NCHW, NHWC or NHW; needed with a head."""
    classes: tuple[int, ...] = ()
    """The wanted channels, summed up where there is more than one; needed where there is more than one channel."""

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        fits = not self.labels or (len(self.shape) > 1 and len(self.labels) == self.shape[-1])
        check(fits, f"labels: {len(self.labels)} do not fit shape {list(self.shape)}; one for each of the last axis")
        check(self.range is None or self.range[0] < self.range[1], "range: is [lowest, highest]")
        if self.head is None:
            check(not self.layout and not self.classes, "head: is needed with layout or classes")
            return
        _check_layout("layout", self.layout)
        good = self.layout and {"H", "W"} <= set(self.layout) <= set("NCHW")
        check(good, f"layout: a head needs the model's own axes, N, H, W and perhaps C; this is {self.layout!r}")
        check(len(self.shape) == 3, f"shape: a head gives [-1, rows, columns], not {list(self.shape)}")
        check(self.dtype in ("f32", "f16", "u8"), f"dtype: a head gives f32, f16 or u8, not {self.dtype}")
        numbers = len(set(self.classes)) == len(self.classes) and all(number >= 0 for number in self.classes)
        check(numbers, "classes: are numbers of channels from 0 on, each once")
        told = self.classes or self.head in ("none", "sigmoid")
        check(told, f"classes: {self.head} needs the numbers of the wanted classes")
        channels = self.head != "softmax" or "C" in str(self.layout)
        check(channels, f"layout: softmax needs channels, C; {self.layout} has none")

    @property
    def own_name(self) -> str:
        """The model's own name of this output."""
        return self.tensor or self.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """`[[states]]`: what a recurrent model remembers from one frame of a stream to the next, f32, zeros at first."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    input: str
    """The model's own name of the input that takes it."""
    output: str
    """... and of the output that gives the next one."""
    shape: tuple[int, ...]
    """Batch first, as -1; the others are fixed."""

    def __post_init__(self) -> None:
        _check_shape(self.shape)

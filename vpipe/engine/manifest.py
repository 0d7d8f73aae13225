"""A model's manifest: what the model is, what goes in, what comes out.

A TOML file beside the model's files. It is all that a plan needs to know, so that planning reads no model and needs no
inference runtime:

    name = "score"
    version = "1.0.0"
    file = "score.xml"                  # IR (.xml with its .bin), .onnx or .tflite, beside the manifest
    licence = "Apache-2.0"
    source = "scripts/train_score"      # where the weights come from

    [sha256]                            # every file of the model
    "score.xml" = "..."
    "score.bin" = "..."

    [[inputs]]                          # what the view delivers
    name = "frames"
    dtype = "u8"
    layout = "NCHW"
    shape = [-1, 2, 224, 224]           # the first is the batch
    mean = [127.5]                      # optional; (x - mean) / scale is folded into the model
    scale = [58.0]

    [[outputs]]
    name = "score"
    shape = [-1]
    range = [0, 100]

    [view]                              # optional: the view that the model was trained on
    kind = "fragments"
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vpipe import layout
from vpipe.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from vpipe.viewconfig import ViewConfig

# Plain classes, checked by pydantic in `load` only: a worker gets its manifest as plain values and must not spend a
# tenth of a second on importing pydantic.

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
SUFFIXES = (".xml", ".onnx", ".tflite")


def _check(good: object, message: str) -> None:
    if not good:
        raise ValueError(message)


def _check_shape(shape: tuple[int, ...]) -> None:
    good = shape and shape[0] == -1 and all(size >= 1 for size in shape[1:])
    _check(good, "shape: the first size is the batch, -1, and every other one is a fixed number above 0")


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
        for name, value in (("layout", self.layout), ("model_layout", self.model_layout)):
            letters = value is None or (re.fullmatch("N[CDHW]+", value) and len(set(value)) == len(value))
            _check(letters, f"{name}: {value!r} is not N and then some of C, D, H and W, once each")
        _check(
            not axes or len(axes) == len(self.shape), f"layout: {axes} has {len(axes)} axes, shape {len(self.shape)}"
        )
        channels = self.shape[axes.index("C")] if "C" in axes else 1
        for name, numbers in (("mean", self.mean), ("scale", self.scale)):
            fits = len(numbers) in (0, 1, channels)
            _check(fits, f"{name}: {len(numbers)} numbers for {channels} channels; give one, or one a channel")
        _check(all(math.isfinite(n) and n != 0 for n in self.scale), "scale: divides, so it must not be 0")
        told = axes or not (self.model_layout or self.model_color)
        _check(told, "layout: is needed to tell the channels from the rows")
        same = not self.model_layout or set(self.model_layout) - {"C"} == set(axes) - {"C"}
        _check(same, f"model_layout: {self.model_layout} has other axes than layout {axes}")
        turned = not self.model_color or (self.color and channels == 3)
        _check(turned, "model_color: needs color and three channels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """`[[outputs]]`: an array that comes out of the model."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    """The model's own name of this output."""
    shape: tuple[int, ...]
    """Batch first, as -1; the others are fixed."""
    dtype: Dtype = "f32"
    range: tuple[float, float] | None = None
    """Lowest and highest meaningful value."""
    labels: tuple[str, ...] = ()
    """Names of the last axis, one an entry."""

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        fits = not self.labels or (len(self.shape) > 1 and len(self.labels) == self.shape[-1])
        _check(fits, f"labels: {len(self.labels)} do not fit shape {list(self.shape)}; one for each of the last axis")
        _check(self.range is None or self.range[0] < self.range[1], "range: is [lowest, highest]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """A whole manifest; `load` is the way to get one."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    path: Path
    """The manifest file itself."""
    name: str
    version: str
    file: str
    licence: str
    source: str
    sha256: dict[str, str]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    view: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The view that the model was trained on: settings of `[branches.view]`, those that matter."""

    def __post_init__(self) -> None:
        _check(re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", self.name), f"name: {self.name!r} is not one plain word")
        _check(self.file.endswith(SUFFIXES), f"file: {self.file!r} is none of {', '.join(SUFFIXES)}")
        files = [self.file, f"{self.file[:-4]}.bin"] if self.file.endswith(".xml") else [self.file]
        missing = [name for name in files if name not in self.sha256]
        _check(not missing, f"sha256: that of {', '.join(missing)} is missing")
        for name, digest in self.sha256.items():
            _check(Path(name).name == name, f"sha256: {name!r} must lie beside the manifest")
            _check(re.fullmatch("[0-9a-f]{64}", digest), f"sha256.{name}: {digest!r} is not 64 hexadecimal digits")
        for place, arrays in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [array.name for array in arrays]
            _check(names, f"{place}: at least one is needed")
            _check(len(set(names)) == len(names), f"{place}: names must differ: {', '.join(names)}")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read and check a manifest; the model's files must be there, but are not read.

        Raises:
            ModelError: The manifest cannot be read or has a bad value, or a file of the model is missing.
        """
        # Not at the top: see above.
        from pydantic import TypeAdapter, ValidationError

        from vpipe.config import explain, load_toml
        from vpipe.viewconfig import ViewConfig

        try:
            values = load_toml(path)
        except ConfigError as error:
            raise ModelError(f"model manifest {error}") from None
        if "path" in values:
            raise ModelError(f"model manifest {path}: path: is not a setting of a manifest")
        try:
            manifest = TypeAdapter(cls).validate_python({**values, "path": path})
        except ValidationError as error:
            raise ModelError(f"model manifest {explain(str(path), error)}") from None
        if unknown := sorted(set(manifest.view) - {field.name for field in dataclasses.fields(ViewConfig)}):
            raise ModelError(f"model manifest {path}: view: no such setting of a view: {', '.join(unknown)}")
        for name in manifest.sha256:
            if not (path.parent / name).is_file():
                raise ModelError(
                    f"{path.parent / name}: no such file, but {path.name} names it; restore the model's files"
                )
        return manifest

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), "path": str(self.path)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Manifest:
        """Rebuild from `to_dict`'s values (JSON turns tuples into lists)."""
        inputs, outputs = (
            tuple(made(**{name: _tupled(value) for name, value in array.items()}) for array in values[place])
            for made, place in ((Input, "inputs"), (Output, "outputs"))
        )
        return cls(**{**values, "path": Path(values["path"]), "inputs": inputs, "outputs": outputs})

    @property
    def model_path(self) -> Path:
        """The model file itself."""
        return self.path.parent / self.file

    @property
    def input_fields(self) -> tuple[layout.Field, ...]:
        """Arrays of a tensor slot, as the view delivers them."""
        return tuple(layout.Field(i.name, DTYPES[i.dtype], i.shape[1:]) for i in self.inputs)

    @property
    def output_fields(self) -> tuple[layout.Field, ...]:
        """Arrays of a result slot."""
        return tuple(layout.Field(o.name, DTYPES[o.dtype], o.shape[1:]) for o in self.outputs)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all that can change a result: the files' declared hashes, the interface and the view."""
        interface = {name: self.to_dict()[name] for name in ("sha256", "inputs", "outputs", "view")}
        return hashlib.sha256(json.dumps(interface, sort_keys=True).encode()).hexdigest()

    def verify(self) -> None:
        """Read every file of the model and compare its hash.

        Raises:
            ModelError: A file cannot be read, or is not the one that the manifest was written for.
        """
        for name, expected in self.sha256.items():
            path = self.path.parent / name
            try:
                with open(path, "rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ModelError(f"{path}: cannot be read: {error.strerror}; restore the model's files") from None
            if found != expected:
                raise ModelError(
                    f"{path}: sha256 is {found}, but {self.path.name} expects {expected}: the file is damaged or "
                    f"another version; restore it, or write its hash into the manifest if the change is meant"
                )

    def check_view(self, view: ViewConfig, where: str) -> None:
        """Compare a branch's view with the one that the model was trained on.

        Args:
            view: The branch's.
            where: Path of the view in the pipeline file, for the message.

        Raises:
            ModelError: A setting differs; the model would run, and its results would mean nothing.
        """
        for name, expected in self.view.items():
            found = view.to_dict()[name]
            if found != expected:
                raise ModelError(
                    f"{where}.{name}: is {found!r}, but the model {self.name} {self.version} was trained with "
                    f"{expected!r}; set it to {expected!r}, or choose another model"
                )


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

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

import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vpipe import layout
from vpipe.config import ViewConfig, explain, load_toml
from vpipe.errors import ConfigError, ModelError

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
Layout = Annotated[str, Field(pattern=r"^N[CDHW]*$")]
Color = Literal["rgb", "bgr"]
SUFFIXES = (".xml", ".onnx", ".tflite")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Array(_Table):
    name: Annotated[str, Field(min_length=1)]
    """The model's own name of this input or output."""
    shape: Annotated[tuple[int, ...], Field(min_length=1)]
    """Batch first, as -1; the others are fixed."""

    @field_validator("shape")
    @classmethod
    def _batched(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value[0] != -1 or any(size < 1 for size in value[1:]):
            raise ValueError("the first size is the batch, -1, and every other one is a fixed number above 0")
        return value


class Input(_Array):
    """`[[inputs]]`: an array that goes into the model."""

    dtype: Dtype = "u8"
    """As the view delivers it; the model computes in its own type."""
    layout: Layout | None = None
    """Meaning of `shape`, for example NHWC; needed where anything below is given."""
    model_layout: Layout | None = None
    """The layout that the model itself wants, where that is not `layout`."""
    color: Color | None = None
    """Order of the channels as the view delivers them."""
    model_color: Color | None = None
    """Order of the channels that the model wants, where that is not `color`."""
    mean: tuple[float, ...] = ()
    """Subtracted first, in units of the input's values: one number, or one a channel."""
    scale: tuple[float, ...] = ()
    """Divided by, after `mean`: one number, or one a channel."""

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(math.isfinite(number) and number != 0 for number in value):
            raise ValueError("a scale divides, so it must not be 0")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Input:
        if self.layout is not None and len(self.layout) != len(self.shape):
            raise ValueError(f"layout {self.layout} names {len(self.layout)} axes, shape has {len(self.shape)}")
        axes = self.layout or ""
        channels = self.shape[axes.index("C")] if "C" in axes else 1
        for name, numbers in (("mean", self.mean), ("scale", self.scale)):
            if len(numbers) > 1 and len(numbers) != channels:
                raise ValueError(
                    f"{name} has {len(numbers)} numbers for {channels} channels (give one, or one a channel)"
                )
        if (self.model_layout or self.model_color or len(self.mean) > 1 or len(self.scale) > 1) and not self.layout:
            raise ValueError("layout is needed to tell the channels from the rows")
        if self.model_layout and set(self.model_layout) - {"C"} != set(axes) - {"C"}:
            raise ValueError(f"model_layout {self.model_layout} has other axes than layout {axes}")
        if self.model_color and (self.color is None or channels != 3):
            raise ValueError("model_color needs color and three channels")
        return self


class Output(_Array):
    """`[[outputs]]`: an array that comes out of the model."""

    dtype: Dtype = "f32"
    range: tuple[float, float] | None = None
    """Lowest and highest meaningful value."""
    labels: tuple[str, ...] = ()
    """Names of the last axis, one an entry."""

    @model_validator(mode="after")
    def _labelled(self) -> Output:
        if self.labels and (len(self.shape) < 2 or len(self.labels) != self.shape[-1]):
            raise ValueError(
                f"{len(self.labels)} labels do not fit shape {list(self.shape)}: one for each of the last axis"
            )
        if self.range and not self.range[0] < self.range[1]:
            raise ValueError("range is [lowest, highest]")
        return self


class Manifest(_Table):
    """A whole manifest; `load` is the way to get one."""

    path: Path
    """The manifest file itself."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(min_length=1)]
    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    licence: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    inputs: Annotated[tuple[Input, ...], Field(min_length=1)]
    outputs: Annotated[tuple[Output, ...], Field(min_length=1)]
    view: dict[str, Any] = {}
    """The view that the model was trained on: settings of `[branches.view]`, those that matter."""

    @field_validator("file")
    @classmethod
    def _readable(cls, value: str) -> str:
        if not value.endswith(SUFFIXES):
            raise ValueError(f"'{value}' is none of {', '.join(SUFFIXES)}")
        return value

    @field_validator("view")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(value) - set(ViewConfig.model_fields)):
            raise ValueError(f"no such setting of a view: {', '.join(unknown)}")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        if missing := [name for name in self._files() if name not in self.sha256]:
            raise ValueError(f"sha256 of {', '.join(missing)} is missing")
        if beyond := [name for name in self.sha256 if Path(name).name != name]:
            raise ValueError(f"sha256: {', '.join(beyond)} must lie beside the manifest")
        for arrays in (self.inputs, self.outputs):
            names = [array.name for array in arrays]
            if len(set(names)) < len(names):
                raise ValueError(f"names must differ: {', '.join(names)}")
        return self

    def _files(self) -> list[str]:
        return [self.file, str(Path(self.file).with_suffix(".bin"))] if self.file.endswith(".xml") else [self.file]

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read and check a manifest; the model's files must be there, but are not read.

        Raises:
            ModelError: The manifest cannot be read or has a bad value, or a file of the model is missing.
        """
        try:
            values = load_toml(path)
        except ConfigError as error:
            raise ModelError(f"model manifest {error}") from None
        if "path" in values:
            raise ModelError(f"model manifest {path}: path: is not a setting of a manifest")
        try:
            manifest = cls.model_validate({**values, "path": path})
        except ValidationError as error:
            raise ModelError(f"model manifest {explain(str(path), error)}") from None
        for name in manifest.sha256:
            if not (path.parent / name).is_file():
                raise ModelError(
                    f"{path.parent / name}: no such file, but {path.name} names it; restore the model's files"
                )
        return manifest

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
        interface = self.model_dump(mode="json", include={"sha256", "inputs", "outputs", "view"})
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
            found = getattr(view, name)
            if isinstance(found, pydantic.BaseModel):
                found = found.model_dump()
            if found != expected:
                raise ModelError(
                    f"{where}.{name}: is {found!r}, but the model {self.name} {self.version} was trained with "
                    f"{expected!r}; set it to {expected!r}, or choose another model"
                )

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

    [[outputs]]                         # what the task gets
    name = "mask"
    tensor = "logits"                   # optional: the model's own name of it
    shape = [-1, 144, 256]
    head = "softmax"                    # optional: a segmentation network's head, folded into the model
    layout = "NCHW"
    classes = [15]

    [[states]]                          # optional: a recurrent model's memory, kept for each stream
    input = "r1i"
    output = "r1o"
    shape = [-1, 16, 72, 128]

    [constants]                         # optional: other inputs of the model, and their one value
    downsample_ratio = [1.0]

    [view]                              # optional: the view that the model was trained on
    kind = "fragments"
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vpipe import layout
from vpipe.engine.interface import DTYPES, Input, Output, State, check
from vpipe.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from vpipe.viewconfig import ViewConfig

SUFFIXES = (".xml", ".onnx", ".tflite")


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
    states: tuple[State, ...] = ()
    constants: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Values of inputs that no view delivers, by the model's own names."""
    view: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The view that the model was trained on: settings of `[branches.view]`, those that matter."""

    def __post_init__(self) -> None:
        check(re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", self.name), f"name: {self.name!r} is not one plain word")
        check(self.file.endswith(SUFFIXES), f"file: {self.file!r} is none of {', '.join(SUFFIXES)}")
        files = [self.file, f"{self.file[:-4]}.bin"] if self.file.endswith(".xml") else [self.file]
        missing = [name for name in files if name not in self.sha256]
        check(not missing, f"sha256: that of {', '.join(missing)} is missing")
        for name, digest in self.sha256.items():
            check(Path(name).name == name, f"sha256: {name!r} must lie beside the manifest")
            check(re.fullmatch("[0-9a-f]{64}", digest), f"sha256.{name}: {digest!r} is not 64 hexadecimal digits")
        for place, arrays in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [array.name for array in arrays]
            check(names, f"{place}: at least one is needed")
            check(len(set(names)) == len(names), f"{place}: names must differ: {', '.join(names)}")
        taken = [i.name for i in self.inputs] + [state.input for state in self.states] + list(self.constants)
        twice = sorted({name for name in taken if taken.count(name) > 1})
        check(not twice, f"inputs, states and constants: {', '.join(twice)} is given twice")

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
        tables = {
            place: tuple(made(**{name: _tupled(value) for name, value in table.items()}) for table in values[place])
            for place, made in (("inputs", Input), ("outputs", Output), ("states", State))
        }
        constants = {name: _tupled(value) for name, value in values["constants"].items()}
        return cls(**{**values, **tables, "path": Path(values["path"]), "constants": constants})

    @property
    def recurrent(self) -> bool:
        """Whether the model remembers earlier frames: it takes one frame at a time, those of a stream in order."""
        return bool(self.states)

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
        names = ("sha256", "inputs", "outputs", "states", "constants", "view")
        interface = {name: _told(self.to_dict()[name]) for name in names}
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


def _told(value: Any) -> Any:
    """Return a table without what it leaves open, so that a setting made up later changes no digest of today's."""
    if isinstance(value, dict):
        return {name: _told(item) for name, item in value.items() if item not in (None, (), {})}
    return [_told(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

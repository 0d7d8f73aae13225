"""Writing manifests, and finding those that a user means."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vpipe.config import load_pipeline
from vpipe.engine.interface import DTYPES
from vpipe.engine.store import SCHEME, find_manifest
from vpipe.errors import UsageError
from vpipe.plugin import Plugins, discover

if TYPE_CHECKING:
    from vpipe.engine.convert import Converted, Port


def write_manifest(path: Path, text: str, files: Sequence[str]) -> None:
    """Write a manifest beside its model's files: a text that lacks their hashes, and these.

    Args:
        path: The manifest to write.
        text: TOML without `[sha256]`.
        files: Names of the files, in the same folder.
    """
    digests = {name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in files}
    lines = [f'"{name}" = "{digest}"\n' for name, digest in digests.items()]
    path.write_text(f"{text.rstrip()}\n\n[sha256]\n{''.join(lines)}")


def draft(name: str, source: str, converted: Converted) -> str:
    """Return the text of a manifest as far as a model's file tells it, for a person to complete."""
    lines = [f'name = "{name}"', 'version = "0"', f'file = "{converted.files[0]}"', 'licence = "unknown"']
    lines += [f'source = "{source}"']
    for table, ports in (("inputs", converted.inputs), ("outputs", converted.outputs)):
        for port in ports:
            lines += ["", f"[[{table}]]", f'name = "{port.name}"', *_array(port)]
    return "\n".join(lines) + "\n"


def _array(port: Port) -> list[str]:
    shape = [] if port.shape is None else [-1, *port.shape[1:]]
    note = "  # give the sizes" if port.shape is None or -1 in port.shape[1:] else ""
    dtype = f'dtype = "{port.dtype}"' if port.dtype in DTYPES else f'dtype = "f32"  # the model has {port.dtype}'
    return [dtype, f"shape = {shape}{note}"]


def named(model: str, plugins: Plugins | None = None) -> list[Path]:
    """Return the manifests that a user means.

    Args:
        model: A manifest (`.toml`), a pipeline's name (`score`: the models of its branches), or a fetched model's
            (`portrait`, `portrait/square`, with or without `fetched:`).
        plugins: All that is installed; found where not given.

    Raises:
        UsageError: There is nothing of that name, or the model has not been fetched.
    """
    if model.endswith(".toml"):
        return [Path(model)]
    plugins = discover() if plugins is None else plugins
    name = model.removeprefix(SCHEME)
    fetchable = {each for plugin in plugins.found.values() for each in plugin.models}
    if model.startswith(SCHEME) or name.partition("/")[0] in fetchable:
        return [find_manifest(f"{SCHEME}{name}", Path())]
    if name in plugins.found:
        return [find_manifest(used, base) for used, base in of_pipeline(plugins.found[name].pipeline)]
    known = ", ".join(sorted({*plugins.found, *fetchable})) or "none"
    raise UsageError(f"no model is called '{model}'; known: {known}; or give the path of a manifest, which is a .toml")


def of_pipeline(path: Path) -> list[tuple[str, Path]]:
    """Return the models of a pipeline file's branches, each once, and the directory that paths are relative to."""
    models = [branch.infer.model for branch in load_pipeline(path).branches]
    return [(model, path.parent) for model in dict.fromkeys(models) if model != "null"]

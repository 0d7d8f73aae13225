"""Where the user's cache lies, and in it the models that were fetched.

    CACHE/models/           compiled models; may be deleted at any time
    CACHE/fetched/NAME/     a fetched model: its manifests (model.toml, others), its files, its licence
    CACHE/fetched/NAME.lock held by the one process that fetches it; .NAME~... is what it has not finished

`CACHE` is `$XDG_CACHE_HOME/vpipe`, by default `~/.cache/vpipe`. A pipeline file names a fetched model
`fetched:NAME` (its model.toml) or `fetched:NAME/VARIANT` (its VARIANT.toml).
"""

from __future__ import annotations

import os
from pathlib import Path

from vpipe.errors import ModelError

SCHEME = "fetched:"


def cache_folder() -> Path:
    """Return the user's cache directory; it may not exist yet.

    Raises:
        RuntimeError: The user has no home directory.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vpipe"


def fetched_manifest(name: str) -> Path:
    """Return where the manifest of a fetched model lies, whether it is there or not; `name` is NAME or NAME/VARIANT."""
    model, _, variant = name.partition("/")
    if not model or model.startswith(".") or "/" in variant or variant.startswith("."):
        raise ModelError(f"{SCHEME}{name}: is not the name of a fetched model; use {SCHEME}NAME or NAME/VARIANT")
    return cache_folder() / "fetched" / model / f"{variant or 'model'}.toml"


def find_manifest(model: str, base: Path) -> Path:
    """Return the manifest that a pipeline file names.

    Args:
        model: A path relative to `base`, or the name of a fetched model.
        base: The pipeline file's directory.

    Raises:
        ModelError: It is a fetched model that is not there.
    """
    if not model.startswith(SCHEME):
        return base / model
    name = model.removeprefix(SCHEME)
    path = fetched_manifest(name)
    if not path.is_file():
        raise ModelError(f"{model}: is not there yet; run: vpipe models fetch {name.partition('/')[0]}")
    return path

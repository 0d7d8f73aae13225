"""Bringing a model that a product can fetch into the user's cache; what is there and sound is left alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpipe.config import load_pipeline
from vpipe.engine import Manifest
from vpipe.engine.store import SCHEME, fetched_manifest
from vpipe.errors import ModelError, ResourceError, UsageError
from vpipe.models.trial import try_model
from vpipe.plugin import Fetchable, Plugins, discover, find_pipeline


def ensure(name: str, *, progress: bool = True) -> Path:
    """Return the manifest of a fetched model, bringing it first where it is missing, damaged or of another version.

    Args:
        name: NAME, or NAME/VARIANT for another manifest of the same model.
        progress: Tell on standard error what is done; where nothing is to be done, nothing is told.

    Raises:
        UsageError: No product can fetch it, or it has no such variant.
        ResourceError: It cannot be downloaded, or the cache cannot be written.
        ModelError: What was downloaded is not what was expected, or does not run.
    """
    path = fetched_manifest(name)
    model = name.partition("/")[0]
    wanted = fetchable(model)
    if _sound(path, wanted):
        return path
    if not path.exists() and _sound(fetched_manifest(model), wanted):
        raise _no_variant(path)
    with _lock(path.parent):
        if not _sound(path, wanted):  # or else another process has brought it meanwhile
            _bring(model, wanted, path.parent, progress)
    if not path.is_file():
        raise _no_variant(path)
    return path


def _no_variant(path: Path) -> UsageError:
    model = path.parent.name
    names = [
        model if other.stem == "model" else f"{model}/{other.stem}" for other in sorted(path.parent.glob("*.toml"))
    ]
    return UsageError(f"{model} has no variant '{path.stem}'; there are {', '.join(names)}")


def fetch(name: str, *, progress: bool = True) -> Path:
    """Bring a model anew, whatever is there; arguments and errors as for `ensure`."""
    path = fetched_manifest(name)
    with _lock(path.parent):
        _bring(path.parent.name, fetchable(path.parent.name), path.parent, progress)
    return ensure(name, progress=progress)


def fetch_missing(pipeline: str) -> None:
    """Bring the fetched models that a pipeline (a file, or a product's name) names and that are not there yet.

    Raises:
        VpipeError: As `ensure` and `load_pipeline` raise.
    """
    path = Path(pipeline) if pipeline.endswith(".toml") else find_pipeline(pipeline)
    for branch in load_pipeline(path).branches:
        if branch.infer.model.startswith(SCHEME):
            ensure(branch.infer.model.removeprefix(SCHEME))


def fetchable(name: str, plugins: Plugins | None = None) -> Fetchable:
    """Return how a product fetches a model.

    Raises:
        UsageError: None can.
    """
    found = (discover() if plugins is None else plugins).models()
    if name not in found:
        raise UsageError(f"no model '{name}' can be fetched; known: {', '.join(found) or 'none'}")
    return found[name]


def _sound(path: Path, wanted: Fetchable) -> bool:
    """Say whether a fetched model is there, whole, and of the version that the product wants."""
    try:
        manifest = Manifest.load(path)
        manifest.verify()
    except ModelError:
        return False
    return manifest.version == wanted.version


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other processes from fetching the same model; they wait, and then find it there."""
    path = folder.with_name(f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be locked: {error.strerror}; fetched models are kept there; make it writable, "
            f"or set XDG_CACHE_HOME to another directory"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _bring(name: str, wanted: Fetchable, folder: Path, progress: bool) -> None:
    """Fetch into a folder of its own, try every model, and put it in place as a whole."""
    _say(progress, f"fetching {name}: {wanted.help}")
    unfinished = f".{name}~"
    for left in folder.parent.glob(f"{unfinished}*"):  # by a process that was killed: the lock is ours now
        shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=unfinished, dir=folder.parent))
    try:
        wanted.load()(made, progress)
        for path in sorted(made.glob("*.toml")):
            trial = try_model(Manifest.load(path))
            _say(progress, f"{name}: {path.stem} runs: {trial}")
        made.chmod(0o755)
        old = made.with_name(f"{made.name}.old")
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be written: {error.strerror}; make room for it there") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    _say(progress, f"{name} {wanted.version} is in {folder}; no network is needed from now on")


def _say(progress: bool, text: str) -> None:
    if progress:
        print(f"vpipe: {text}", file=sys.stderr, flush=True)

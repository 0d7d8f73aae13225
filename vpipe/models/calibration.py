"""Views of real videos: what a branch's model would get from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.config import BranchConfig, load_pipeline
from vpipe.engine import Manifest
from vpipe.engine.store import find_manifest
from vpipe.errors import MediaError, UsageError
from vpipe.log import log
from vpipe.plugin import Plugins, discover, find_pipeline
from vpipe.sources import resolve_sources


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a model is used: the branch says what it sees and what becomes of its outputs."""

    branch: BranchConfig
    manifest: Path


def find_place(model: str, pipeline: str | None = None, plugins: Plugins | None = None) -> Place:
    """Return the branch that a model belongs to.

    Args:
        model: A manifest (`.toml`), `fetched:NAME`, or a pipeline's name for the model of its first branch.
        pipeline: Look there only: a pipeline file or an installed pipeline's name.
        plugins: All that is installed; found where not given.

    Raises:
        UsageError: No branch uses this model.
    """
    plugins = discover() if plugins is None else plugins
    if pipeline is None and model in plugins.found:
        pipeline = model
    if pipeline is not None:
        files = [Path(pipeline) if pipeline.endswith(".toml") else find_pipeline(pipeline)]
    else:
        files = [plugin.pipeline for plugin in plugins.found.values()]
    branches = [(branch, file.parent) for file in files for branch in load_pipeline(file).branches]
    uses = [(branch, branch.infer.model, base) for branch, base in branches if branch.infer.model != "null"]
    for branch, used, base in uses:
        same = model == used or (model.endswith(".toml") and Path(model).resolve() == (base / used).resolve())
        if same or model == pipeline:
            return Place(branch, find_manifest(used, base))
    if pipeline is not None and len(uses) == 1:
        # Named together: another model for the place of the one that the pipeline has.
        return Place(uses[0][0], find_manifest(model, Path()))
    raise UsageError(
        f"no installed pipeline uses the model {model}, so it is not known what it sees; name the pipeline: --pipeline"
    )


def gather_views(place: Place, sources: Sequence[str], count: int) -> list[NDArray[Any]]:
    """Return about `count` views, spread evenly over all sources; each (1, ...), as the model gets it.

    Files that cannot be decoded are left out, and the log says so.

    Raises:
        UsageError: No source gives a frame.
    """
    from vpipe.media import Sample, open_media
    from vpipe.view import make_view, view_fields

    view = make_view(place.branch.view)
    fields = view_fields(place.branch.view)
    paths = [path for path, _ in resolve_sources(sources)]
    sample = Sample.parse(f"n={max(1, -(-count // len(paths)))}")
    found: list[NDArray[Any]] = []
    for path in paths:
        try:
            media = open_media(path)
            try:
                _, segments = media.plan(sample, pair=place.branch.view.pair)
                for segment in segments:
                    for picture in media.read(segment, sample, pair=place.branch.view.pair):
                        items = {field.name: np.zeros(field.shape, field.dtype) for field in fields}
                        view.render(picture, items)
                        found.append(items[fields[0].name][np.newaxis])
            finally:
                media.close()
        except MediaError as error:
            log.warning("%s: left out: %s", path, error)
    if len(found) < 2:
        raise UsageError(f"--data: {len(paths)} sources give {len(found)} frames; at least 2 are needed")
    return found


def load_manifest(place: Place) -> Manifest:
    """Return the model's manifest, checked against the view.

    Raises:
        ModelError: It is missing, broken, or made for another view.
    """
    manifest = Manifest.load(place.manifest)
    manifest.check_view(place.branch.view, f"branch {place.branch.name}: view")
    return manifest

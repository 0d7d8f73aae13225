"""Views of real videos: what a branch's model would get from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpipe.config import load_pipeline
from vpipe.errors import MediaError, UsageError
from vpipe.log import log
from vpipe.pipeline import Pipeline, pipeline_path
from vpipe.plan import BranchPlan
from vpipe.plugin import Plugins, discover
from vpipe.sources import resolve_sources


def find_branch(model: str, pipeline: str | None = None, plugins: Plugins | None = None) -> BranchPlan:
    """Return the branch that a model belongs to: it says what the model sees and what becomes of its outputs.

    Args:
        model: A manifest (`.toml`), `fetched:NAME`, or a pipeline's name for the model of its first branch.
        pipeline: Look there only: a pipeline file or an installed pipeline's name. Its first branch gets the model,
            where none has it.
        plugins: All that is installed; found where not given.

    Raises:
        UsageError: No branch uses this model.
        ModelError: It is missing, broken, or made for another view.
    """
    plugins = discover() if plugins is None else plugins
    if pipeline is None and model in plugins.found:
        pipeline = model
    files = [pipeline_path(pipeline)] if pipeline else [plugin.pipeline for plugin in plugins.found.values()]
    for file in files:
        for index, branch in enumerate(load_pipeline(file).branches):
            if model == pipeline or _same(model, branch.infer.model, file.parent):
                return Pipeline.load(file, profile=False).plan().branches[index]
    if pipeline is None:
        raise UsageError(
            f"no installed pipeline uses the model {model}, so it is not known what it sees; "
            f"name the pipeline: --pipeline"
        )
    own = str(Path(model).resolve()) if model.endswith(".toml") else model
    return Pipeline.load(files[0], {"branches.0.infer.model": own}, profile=False).plan().branches[0]


def _same(model: str, used: str, base: Path) -> bool:
    return model == used or (model.endswith(".toml") and Path(model).resolve() == (base / used).resolve())


def gather_views(branch: BranchPlan, sources: Sequence[str], count: int) -> list[NDArray[Any]]:
    """Return about `count` views, spread evenly over all sources; each (1, ...), as the model gets it.

    Files that cannot be decoded are left out, and the log says so.

    Raises:
        UsageError: No source gives a frame.
    """
    from vpipe.media import Sample, open_media
    from vpipe.view import make_view, view_fields

    view = make_view(branch.view)
    fields = view_fields(branch.view)
    paths = [path for path, _ in resolve_sources(sources)]
    sample = Sample.parse(f"n={max(1, -(-count // len(paths)))}")
    found: list[NDArray[Any]] = []
    for path in paths:
        try:
            media = open_media(path)
            try:
                _, segments = media.plan(sample, pair=branch.view.pair)
                for segment in segments:
                    for picture in media.read(segment, sample, pair=branch.view.pair):
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

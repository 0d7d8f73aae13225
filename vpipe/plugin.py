"""Plugins: how a product makes itself known to vpipe.

A product is a package with an entry point in the group `vpipe.pipelines`, whose object is a `Plugin`. Finding plugins
imports the packages that hold these objects and nothing else: commands are imported when they are called.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpipe.errors import UsageError

if TYPE_CHECKING:
    # Slow to import, and each worker of a product imports its package and so this module.
    from importlib.metadata import EntryPoint

GROUP = "vpipe.pipelines"


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One command that a plugin adds to `vpipe`."""

    target: str
    """`package.module:attribute` of a click command."""
    help: str
    """One line for `vpipe --help`, told without importing the target."""

    def load(self) -> Any:
        """Import and return the click command.

        Raises:
            UsageError: It cannot be imported.
        """
        return _load_target("command", self.target)


@dataclasses.dataclass(frozen=True, slots=True)
class Fetchable:
    """A model that a product does not carry, but can bring."""

    target: str
    """`package.module:function`; it is called with an empty folder and whether to show progress, and leaves a
    `model.toml` there with the model's files, and perhaps manifests of variants."""
    version: str
    """That of the manifests which it writes now; what is cached of another version is fetched again, so change both
    whenever it would write something else."""
    help: str
    """One line: what it is, where it comes from, how large the download is."""

    def load(self) -> Callable[[Path, bool], None]:
        """Import and return the function.

        Raises:
            UsageError: It cannot be imported.
        """
        found: Callable[[Path, bool], None] = _load_target("model", self.target)
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Plugin:
    """What a product package offers."""

    pipeline: Path
    """Its pipeline file; `vpipe run NAME` and `vpipe.Pipeline.load(NAME)` use it under the entry point's name."""
    commands: dict[str, Command] = dataclasses.field(default_factory=dict)
    """Commands that it adds to `vpipe`, by name."""
    baselines: dict[str, str] = dataclasses.field(default_factory=dict)
    """Other ways to do its job that `vpipe bench` measures beside it, by name: modules that run as
    `python -m MODULE CLIP SAMPLE` and end with a JSON line of `frames`, `seconds` and `cpu_s`."""
    quality: str | None = None
    """`package.module:function`: given a clip's path, returns figures of how good the product's results on it are."""
    models: dict[str, Fetchable] = dataclasses.field(default_factory=dict)
    """Models that it can fetch, by name; a pipeline file names one `fetched:NAME`."""

    def load_quality(self) -> Callable[[str], dict[str, Any]]:
        """Import and return the function of `quality`, which there must be.

        Raises:
            UsageError: It cannot be imported.
        """
        assert self.quality is not None
        function: Callable[[str], dict[str, Any]] = _load_target("function", self.quality)
        return function


@dataclasses.dataclass(frozen=True, slots=True)
class Plugins:
    """All that is installed."""

    found: dict[str, Plugin]
    """By the entry point's name."""
    broken: dict[str, UsageError]
    """Why others cannot be used, by name; the message names the distribution. They do no harm to the rest."""

    def get(self, name: str) -> Plugin:
        """Return a plugin.

        Raises:
            UsageError: It is broken, or not installed.
        """
        if name in self.found:
            return self.found[name]
        if name in self.broken:
            raise self.broken[name]
        known = ", ".join(sorted(self.found)) or "none"
        raise UsageError(f"no pipeline is called '{name}'; installed: {known}")

    def commands(self) -> dict[str, Command]:
        """Return all commands by name, in order of the names; where two plugins add the same, the first's counts."""
        merged: dict[str, Command] = {}
        for name in sorted(self.found):
            for command, target in self.found[name].commands.items():
                merged.setdefault(command, target)
        return dict(sorted(merged.items()))

    def models(self) -> dict[str, Fetchable]:
        """Return all models that can be fetched by name, by the same rule."""
        merged: dict[str, Fetchable] = {}
        for name in sorted(self.found):
            for model, fetchable in self.found[name].models.items():
                merged.setdefault(model, fetchable)
        return dict(sorted(merged.items()))


def discover(points: Iterable[EntryPoint] | None = None) -> Plugins:
    """Return the plugins of this environment, or of the given entry points."""
    from importlib.metadata import entry_points

    by_name: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP) if points is None else points:
        others = by_name.setdefault(point.name, [])
        # An editable install and its source directory on the path name the same object twice.
        if all(other.value != point.value for other in others):
            others.append(point)
    plugins = Plugins({}, {})
    for name, rivals in sorted(by_name.items()):
        try:
            plugins.found[name] = _load(rivals)
        except UsageError as error:
            plugins.broken[name] = error
    return plugins


def find_pipeline(name: str) -> Path:
    """Return the pipeline file that a plugin registered under `name`.

    Raises:
        UsageError: No plugin has that name, or the one that has is broken.
    """
    return discover().get(name).pipeline


def _load_target(kind: str, target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the {kind} {target} cannot be loaded: {error}") from error


def _load(rivals: list[EntryPoint]) -> Plugin:
    point = rivals[0]
    if len(rivals) > 1:
        owners = " and ".join(sorted(_owner(rival) for rival in rivals))
        raise UsageError(f"pipeline '{point.name}' is offered by {owners}: uninstall one of them")
    where = f"plugin '{point.name}' of {_owner(point)} ({point.value})"
    try:
        found = point.load()
    except Exception as error:  # whatever a stranger's import does, the other plugins work on
        remedy = "repair or uninstall it"
        raise UsageError(f"{where} cannot be loaded: {type(error).__name__}: {error}; {remedy}") from error
    if not isinstance(found, Plugin):
        raise UsageError(f"{where} is a {type(found).__name__}, not a vpipe.plugin.Plugin; repair or uninstall it")
    return found


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"

"""Profiles: what `vpipe tune` found to be fastest for a pipeline on this machine, for later runs to use.

    CACHE/profiles/NAME-KEY.toml

KEY names all that a profile is good for: what is sampled, the views, models and tasks, the processor and its cores, the
versions of vpipe, OpenVINO and PyAV. When one of them changes the profile is not found any more, and does no harm.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vpipe.config import load_toml
from vpipe.engine.store import cache_folder, find_manifest
from vpipe.errors import ConfigError, ModelError
from vpipe.host import Host
from vpipe.plain import canonical

KNOBS = re.compile(
    r"decode\.(workers|slots)|branches\.[0-9]+\.(batch\.(max_size|max_wait_ms|slots)"
    r"|infer\.(streams|threads|requests|precision))"
)
"""Settings, by dotted path, that decide how fast a run is and nothing else (precision: hardly anything else)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """What was found."""

    path: Path
    settings: dict[str, Any]
    """Values of knobs that differ from the pipeline's own, by dotted path."""
    figures: dict[str, Any]
    """What was measured: `speedup` over the pipeline's own settings, `fps`, `goal`, `when`, ..."""

    def line(self) -> str:
        """Return what people want to know of it."""
        changed = ", ".join(f"{name} = {value}" for name, value in self.settings.items()) or "no change"
        return f"{self.path}: {self.figures['speedup']:.2f} x as fast ({self.figures['goal']}): {changed}"


def profile_path(values: Mapping[str, Any], base: Path, host: Host) -> Path:
    """Return where the profile of a pipeline lies, whether it is there or not.

    Args:
        values: The pipeline, with what replaces the file's values in place.
        base: The directory that model paths are relative to.
        host: The machine, as far as it may be used.
    """
    work = {name: values.get(name) for name in ("source", "decode")}
    # What becomes of the results is not asked for: it hardly matters, and users change it freely.
    branches = [{**branch, "postprocess": branch.get("postprocess", {}).get("task")} for branch in values["branches"]]
    for branch in branches:
        branch["infer"] = {**branch["infer"], "model": _named(branch["infer"]["model"], base)}
    versions = [_version(package) for package in ("vpipe", "openvino", "av")]
    facts = {"work": work, "branches": branches, "cpu": host.cpu, "cores": host.cores, "versions": versions}
    key = hashlib.sha256(canonical(facts)).hexdigest()[:16]
    return cache_folder() / "profiles" / f"{values['name']}-{key}.toml"


def _named(model: str, base: Path) -> str:
    """Return one spelling of a model's name, as it may be spelled in several ways."""
    try:
        return str(find_manifest(model, base).resolve())
    except ModelError:  # not fetched yet
        return model


def find_profile(values: Mapping[str, Any], base: Path, overrides: Mapping[str, Any]) -> Profile | None:
    """Return the profile to use, if there is one; none where a knob is set by hand.

    Args:
        values: The pipeline, checked, with the overrides in place.
        base: The directory that model paths are relative to.
        overrides: What replaced the file's values.

    Raises:
        ConfigError: It is damaged.
    """
    if any(KNOBS.fullmatch(dotted) for dotted in overrides):
        return None
    try:
        # Most users have none: look before anything is asked of the machine.
        if not any((cache_folder() / "profiles").glob(f"{values['name']}-*.toml")):
            return None
    except (OSError, RuntimeError):  # no home, or nothing of ours to be read in it
        return None
    path = profile_path(values, base, Host.detect())
    return read_profile(path) if path.is_file() else None


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ConfigError: It cannot be read, or sets what is no knob.
    """
    found = load_toml(path)
    settings, figures = found.get("settings"), found.get("figures")
    good = isinstance(settings, dict) and isinstance(figures, dict) and {"speedup", "goal"} <= figures.keys()
    if not good or not all(KNOBS.fullmatch(name) for name in settings or ()):
        raise ConfigError(f"{path}: is not a profile of vpipe tune; delete it")
    assert isinstance(settings, dict)
    assert isinstance(figures, dict)
    return Profile(path, settings, figures)


def write_profile(profile: Profile, host: Host) -> None:
    """Write a profile, whole or not at all."""
    tables = {
        "host": {"cpu": host.cpu, "cores": host.cores},
        "figures": profile.figures,
        "settings": profile.settings,
    }
    lines = ["# Written by vpipe tune; delete it to go back to the pipeline's own settings."]
    for table, values in tables.items():
        lines += ["", f"[{table}]", *(f"{json.dumps(name)} = {_toml(value)}" for name, value in values.items())]
    profile.path.parent.mkdir(parents=True, exist_ok=True)
    part = profile.path.with_suffix(".part")
    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    part.replace(profile.path)


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # numbers, text and flags are spelled alike


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return ""

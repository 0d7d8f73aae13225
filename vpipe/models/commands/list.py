"""`vpipe models list`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vpipe.engine import Manifest
from vpipe.engine.store import SCHEME, fetched_manifest
from vpipe.errors import ModelError, VpipeError
from vpipe.models.manifests import of_pipeline
from vpipe.plugin import discover


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model.")
def list_(as_json: bool) -> None:
    """List the models of the installed pipelines, and those that can be fetched."""
    for row in rows():
        if as_json:
            click.echo(json.dumps(row))
        else:
            what = f"{row['version']:10} {row['licence']:12}" if row["there"] else "not usable:"
            click.echo(f"{row['name']:18} {what} {row['note']}")


def rows() -> list[dict[str, Any]]:
    """Return a row a model: name, pipelines that use it, path, and whether it is there."""
    plugins = discover()
    used: dict[Path, list[str]] = {}
    broken = []
    for name, plugin in sorted(plugins.found.items()):
        try:
            for model, base in of_pipeline(plugin.pipeline):
                fetched = model.startswith(SCHEME)
                path = fetched_manifest(model.removeprefix(SCHEME)) if fetched else base / model
                used.setdefault(path, []).append(name)
        except VpipeError as error:
            broken.append(_absent(name, plugin.pipeline, [name], str(error)))
    remedies = {}
    for name in plugins.models():
        folder = fetched_manifest(name).parent
        for path in sorted({fetched_manifest(name), *folder.glob("*.toml")}):
            used.setdefault(path, [])
            remedies[path] = f"vpipe models fetch {name}"
    return [_row(path, users, remedies.get(path)) for path, users in used.items()] + broken


def _row(path: Path, users: list[str], remedy: str | None) -> dict[str, Any]:
    try:
        manifest = Manifest.load(path)
    except ModelError as error:
        return _absent(path.parent.name, path, users, remedy if remedy and not path.exists() else str(error))
    note = f"used by {', '.join(users)}" if users else str(path)
    facts = {"version": manifest.version, "licence": manifest.licence, "digest": manifest.digest}
    return {"name": manifest.name, "there": True, "path": str(path), "used_by": users, "note": note, **facts}


def _absent(name: str, path: Path, users: list[str], note: str) -> dict[str, Any]:
    return {"name": name, "there": False, "path": str(path), "used_by": users, "note": note}

"""`vpipe models show`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from vpipe.engine import Manifest
from vpipe.models.manifests import named


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model.")
def show(model: str, as_json: bool) -> None:
    """Tell what MODEL is, what goes in and what comes out."""
    for path in named(model):
        manifest = Manifest.load(path)
        if as_json:
            click.echo(json.dumps({**manifest.to_dict(), "digest": manifest.digest}))
        else:
            click.echo("\n".join(_lines(manifest)))


def _lines(manifest: Manifest) -> Iterator[str]:
    size = sum((manifest.path.parent / name).stat().st_size for name in manifest.sha256)
    yield f"{manifest.name} {manifest.version}"
    yield f"  manifest  {manifest.path}"
    yield f"  files     {', '.join(manifest.sha256)}: {size / 1024:.0f} KiB"
    yield f"  licence   {manifest.licence}"
    yield f"  source    {manifest.source}"
    for array in manifest.inputs:
        yield f"  input     {array.name}: {_told(array, 'mean', 'scale', 'model_layout', 'color', 'model_color')}"
    for output in manifest.outputs:
        yield f"  output    {output.name}: {_told(output, 'head', 'classes', 'range', 'labels')}"
    for state in manifest.states:
        yield f"  memory    {state.input} <- {state.output}: f32 {list(state.shape)}"
    for name, values in manifest.constants.items():
        yield f"  constant  {name} = {', '.join(f'{value:g}' for value in values)}"
    if manifest.view:
        yield f"  view      {', '.join(f'{name} = {value}' for name, value in manifest.view.items())}"
    yield f"  digest    {manifest.digest}"


def _told(array: Any, *names: str) -> str:
    """Return an array's type and shape, and what else is set."""
    axes = f" {array.layout}" if array.layout else ""
    more = [f"{name} {_plain(getattr(array, name))}" for name in names if getattr(array, name) not in (None, ())]
    return ", ".join([f"{array.dtype} {list(array.shape)}{axes}", *more])


def _plain(value: Any) -> str:
    return (
        " ".join(map(_plain, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else value
    )

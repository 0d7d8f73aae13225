"""`vpipe models verify`."""

from __future__ import annotations

import click

from vpipe.engine import Manifest
from vpipe.models.manifests import named
from vpipe.models.trial import try_model


@click.command()
@click.argument("model")
@click.option("--device", default="CPU", show_default=True, help="Any OpenVINO device.")
def verify(model: str, device: str) -> None:
    """Check the hashes of MODEL, run it once, and compare what goes in and out with its manifest."""
    for path in named(model):
        manifest = Manifest.load(path)
        click.echo(f"{manifest.name} {manifest.version}: good: {try_model(manifest, device=device)}")

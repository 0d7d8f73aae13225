"""`vpipe models convert`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from vpipe.engine.convert import Converted, convert_model
from vpipe.errors import ModelError, ResourceError
from vpipe.models.manifests import draft, write_manifest


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Directory; default: MODEL's name.")
@click.option("--inputs", default="", metavar="A,B", help="Cut here: these tensors become the inputs.")
@click.option("--outputs", default="", metavar="A,B", help="Cut here: these tensors become the outputs.")
@click.option("--f32", is_flag=True, help="Keep weights as they are, not as 16-bit floats.")
def convert(model: Path, out: Path | None, inputs: str, outputs: str, f32: bool) -> None:
    """Convert MODEL (ONNX, TFLite, TensorFlow, Paddle, OpenVINO) and write a manifest to complete.

    The manifest has what the file tells: name the licence, the sizes left open, layout and scale of the inputs, and
    the head of a segmentation network.
    """
    folder = out or Path(model.stem)
    manifest = folder / "model.toml"
    if manifest.exists():
        raise ModelError(f"{manifest}: is there already, perhaps completed by hand; choose another directory with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be made: {error.strerror}; choose another with -o") from None
    cut = [[name for name in names.split(",") if name] for names in (inputs, outputs)]
    converted = convert_model(model, folder, model.stem, inputs=cut[0], outputs=cut[1], half=not f32)
    write_manifest(manifest, draft(_word(model.stem), model.name, converted), converted.files)
    click.echo("\n".join(_lines(manifest, converted)))


def _word(stem: str) -> str:
    """Return a file's name as the plain word that a model's name must be."""
    return re.sub("[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "model"


def _lines(manifest: Path, converted: Converted) -> list[str]:
    lines = [str(manifest)]
    for side, ports in (("input", converted.inputs), ("output", converted.outputs)):
        lines += [f"  {side:7} {p.name}: {p.dtype} {'?' if p.shape is None else list(p.shape)}" for p in ports]
    return [*lines, "complete the manifest (licence, layout, scale, head), then: vpipe models verify " + str(manifest)]

"""The portrait nets that MediaPipe publishes (Apache-2.0), brought from its wheel and converted.

The wheel is data here: its library is never imported, and any Python on any platform can read the files out of it.
"""

from __future__ import annotations

from pathlib import Path

from vpipe.models import convert_model, wheel_members, write_manifest

REQUIREMENT = "mediapipe==0.10.21"
PYTHON, PLATFORM = "3.11", "manylinux_2_28_x86_64"
"""Of the wheel that the hashes were taken from."""

LICENCE = "mediapipe-0.10.21.dist-info/LICENSE"
NETS = {
    "model": ("landscape", "mediapipe/modules/selfie_segmentation/selfie_segmentation_landscape.tflite"),
    "square": ("square", "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"),
}
"""Names of the files to write and paths in the wheel, by manifest."""
SHA256 = {
    NETS["model"][1]: "a77d03f4659b9f6b6c1f5106947bf40e99d7655094b6527f214ea7d451106edd",
    NETS["square"][1]: "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    LICENCE: "8707eef0533987efc5b155d64761eeb6e20793f50b9bd1a68dad1cf4719d0ed8",
}

MANIFESTS = Path(__file__).with_name("models")


def fetch(folder: Path, progress: bool) -> None:
    """Fill an empty folder: model.toml (landscape, 256x144), square.toml (256x256), their files, and the licence.

    Raises:
        ResourceError: The wheel cannot be downloaded.
        ModelError: The wheel holds other files than it should.
    """
    members = wheel_members(REQUIREMENT, SHA256, python=PYTHON, platform=PLATFORM, progress=progress)
    (folder / "LICENSE").write_bytes(members[LICENCE])
    for manifest, (name, path) in NETS.items():
        tflite = folder / f"{name}.tflite"
        tflite.write_bytes(members[path])
        converted = convert_model(tflite, folder, name)
        tflite.unlink()
        text = (MANIFESTS / f"{manifest}.toml").read_text("utf-8")
        write_manifest(folder / f"{manifest}.toml", text, converted.files)

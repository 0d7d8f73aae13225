"""Portrait masks of live streams and files, so that comments pass behind people."""

from __future__ import annotations

from pathlib import Path

from vpipe.plugin import Fetchable, Plugin

__version__ = "0.1.0"

PIPELINE = Path(__file__).with_name("pipeline.toml")

plugin = Plugin(
    pipeline=PIPELINE,
    models={
        "portrait": Fetchable(
            "vpipe_mask.portrait:fetch", "0.10.21", "the portrait nets of MediaPipe 0.10.21, a download of 36 MB"
        )
    },
)

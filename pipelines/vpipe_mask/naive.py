"""The loop that most people would write, for `vpipe bench mask CLIP --against naive`.

`python -m vpipe_mask.naive CLIP SAMPLE` runs it by itself. OpenCV decodes every frame to BGR, resizes it and turns it
into RGB; the same net is called for one frame at a time. Filter, outline and file formats are vpipe's own, so that
both leave the same kind of files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpipe.media import Sample
from vpipe_mask.filter import FilterOptions, MaskFilter
from vpipe_mask.formats import DEFAULT, FORMATS, Record

SIZE = 256, 144
"""Width and height that the net takes, pixels."""

Net = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(144, 256, 3) uint8 RGB to (144, 256) 0..1."""


def main(clip: str, sample_text: str) -> None:
    """Make the masks of `clip` and print what it took."""
    print(json.dumps(run(clip, sample_text, _net())))


def _net() -> Net:
    import openvino as ov

    from vpipe.engine import Manifest
    from vpipe.models import ensure

    manifest = Manifest.load(ensure("portrait", progress=False))
    request = ov.Core().compile_model(str(manifest.model_path), "CPU").create_infer_request()

    def net(view: NDArray[np.uint8]) -> NDArray[np.float32]:
        request.infer({0: (view * np.float32(1 / 255))[None]})
        found: NDArray[np.float32] = request.get_output_tensor(0).data.reshape(SIZE[::-1])
        return found

    return net


def run(clip: str, sample_text: str, net: Net) -> dict[str, Any]:
    """Make the masks of `clip` into a temporary folder; returns what it took."""
    began, cpu_began = time.perf_counter(), time.process_time()
    capture = cv2.VideoCapture(clip)
    rate = Fraction(capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(Sample.parse(sample_text).choose(list(range(count)), [i == 0 for i in range(count)], 1 / rate))
    memory = MaskFilter(FilterOptions(), *SIZE)
    kept: dict[str, list[Record]] = {name: [] for name in DEFAULT}
    at = frames = 0
    while True:
        read, picture = capture.read()
        if not read:
            break
        if at in wanted:
            small = cv2.resize(picture, SIZE, interpolation=cv2.INTER_AREA)
            view: NDArray[np.uint8] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
            filtered = memory.step(net(view), view)
            for name, records in kept.items():
                data = FORMATS[name].encode(filtered.soft, filtered.outline)
                records.append(Record(at, (rate.denominator, rate.numerator), round(at * 1000 / rate), data))
            frames += 1
        at += 1
    with tempfile.TemporaryDirectory() as folder:
        for name, records in kept.items():
            FORMATS[name].write(Path(folder) / f"masks{FORMATS[name].suffix}", records)
    return {
        "frames": frames,
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu_began,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])

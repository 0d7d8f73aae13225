"""The loop that most people would write, for `vpipe bench score --against naive`.

`python -m vpipe_score.naive CLIP SAMPLE [TRACE]` runs it by itself; TRACE is a file for what it was at.

OpenCV decodes every frame to BGR, the fragments are cut from its grey version, and the same model is called for one
frame at a time. It gets what a careful author of such a loop would use: OpenCV's own decoder threads, all cores for
the model, and no work for frames that the sampling does not take.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import openvino as ov

from vpipe.config import load_pipeline
from vpipe.engine import Manifest
from vpipe.fragments import active_area, is_mirrored, phase_of, positions
from vpipe.media import Sample
from vpipe.trace import Recorder, Span
from vpipe.trace.solo import trace_alone

PIPELINE = Path(__file__).with_name("pipeline.toml")


def main(clip: str, sample_text: str, trace: str | None = None) -> None:
    """Score `clip` and print what it took."""
    facts = {"cores": len(os.sched_getaffinity(0))}
    with trace_alone(trace, "naive", facts) if trace else contextlib.nullcontext() as recorder:
        print(json.dumps(score(clip, sample_text, recorder)))


def score(clip: str, sample_text: str, recorder: Recorder | None) -> dict[str, float]:
    """Score `clip`; returns what it took."""
    config = load_pipeline(PIPELINE)
    view = config.branches[0].view
    manifest = Manifest.load(PIPELINE.parent / config.branches[0].infer.model)
    size = view.grid * view.patch
    model = ov.Core().read_model(manifest.path.with_name(manifest.file))
    model.reshape({0: [1, 2, size, size]})
    request = ov.Core().compile_model(model, "CPU").create_infer_request()
    began, cpu_began = time.perf_counter(), time.process_time()
    capture = cv2.VideoCapture(clip)
    rate = capture.get(cv2.CAP_PROP_FPS)
    sample = Sample.parse(sample_text)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(
        sample.choose(list(range(count)), [i == 0 for i in range(count)], 1 / Fraction(rate).limit_denominator(1001))
    )
    frames, at, previous = 0, 0, None
    tensor = np.empty((1, 2, size, size), np.uint8)
    if recorder is not None:
        recorder.mark(Span.SETUP)
    while True:
        read, picture = capture.read()
        if recorder is not None:
            recorder.mark(Span.DECODE)
        if not read:
            break
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if at in wanted or at + 1 in wanted else None
        if at in wanted and grey is not None:
            top, left, rows, columns = active_area(grey, view.patch)
            pair = (grey, grey if previous is None else previous)
            seen = [source[top : top + rows, left : left + columns] for source in pair]
            phase = phase_of(round(at / rate * 1000))
            corners = positions(rows, columns, view.grid, view.patch, phase)
            for index, (y, x) in enumerate(corners):
                row, column = (part * view.patch for part in divmod(index, view.grid))
                for channel, source in enumerate(seen):
                    tensor[0, channel, row : row + view.patch, column : column + view.patch] = source[
                        y : y + view.patch, x : x + view.patch
                    ]
            if view.mirror and is_mirrored(phase):
                tensor[...] = tensor[..., ::-1].copy()
            if recorder is not None:
                recorder.mark(Span.VIEW)
            request.infer({0: tensor})
            float(request.get_output_tensor(0).data.ravel()[0])
            if recorder is not None:
                recorder.mark(Span.INFER_ALONE)
            frames += 1
        previous = grey
        at += 1
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    return {"frames": frames, "seconds": seconds, "cpu_s": cpu_s}


if __name__ == "__main__":
    main(*sys.argv[1:])

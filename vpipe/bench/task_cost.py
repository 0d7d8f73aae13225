"""What a product's own code costs by itself: its task on real results of its model, with nothing around it.

`python -m vpipe.bench.task_cost JSON` is one of the processes that share the cores while it is measured.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

import numpy as np

from vpipe.engine import Manifest, Setup, open_engine
from vpipe.frame import FRAME, FrameFlag, StreamInfo
from vpipe.layout import Field
from vpipe.media import Sample, open_media
from vpipe.task import Batch, Task
from vpipe.view import make_view, view_fields
from vpipe.viewconfig import ViewConfig

FRAMES = 192
"""How many frames the task is measured on: the first of the clip."""


def measure_task(job: dict[str, Any]) -> dict[str, float]:
    """Run a branch's task on the first frames of a clip; returns `task_ms`, CPU milliseconds a taken frame."""
    batches, stream = _results(job)
    task = Task.load(job["task"])(job["options"], {name: tuple(labels) for name, labels in job["labels"].items()})
    began = time.thread_time_ns()
    found = []
    for batch in batches:
        columns = task.on_batch(batch)
        columns |= {name: batch.frames[name].copy() for name in ("pts", "index", "flags")}
        found.append(columns)
    joined = {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}
    joined["pts_s"] = joined["pts"] * (stream.time_base[0] / stream.time_base[1])
    task.on_segment(stream, joined)
    spent = time.thread_time_ns() - began
    return {"task_ms": spent / sum(map(len, batches)) * 1e-6}


def _results(job: dict[str, Any]) -> tuple[list[Batch], StreamInfo]:
    """Return what the model makes of the clip's first frames, in batches as the task gets them."""
    config = ViewConfig.from_dict(job["view"])
    view, sample = make_view(config), Sample.parse(job["sample"])
    manifest = Manifest.from_dict(job["manifest"])
    first, *companions = view_fields(config)
    (model_input,) = manifest.input_fields
    size: int = job["batch"]

    def slot(fields: list[Field]) -> dict[str, np.ndarray[Any, Any]]:
        return {field.name: np.zeros((size, *field.shape), field.dtype) for field in fields}

    tensors, beside, results = slot([model_input]), slot(list(companions)), slot(list(manifest.output_fields))
    media = open_media(job["clip"], job["max_pixels"], job["skip_loop_filter"])
    stream, segments = media.plan(sample, pair=config.pair)
    engine = open_engine(manifest, Setup(size, requests=1))
    engine.bind([tensors], [results])
    pictures = (p for segment in segments for p in media.read(segment, sample, pair=config.pair))
    batches: list[Batch] = []
    numbered = enumerate(itertools.islice(pictures, FRAMES))
    while rows := list(itertools.islice(numbered, size)):
        frames = np.zeros(len(rows), FRAME)
        for row, (number, picture) in enumerate(rows):
            items = {first.name: tensors[model_input.name][row], **{name: beside[name][row] for name in beside}}
            flags = view.render(picture, items) | picture.flags | (FrameFlag(0) if number else FrameFlag.FIRST)
            base = picture.time_base
            frames[row]["pts"], frames[row]["index"], frames[row]["flags"] = picture.pts, picture.index, flags
            frames[row]["tb_num"], frames[row]["tb_den"] = base.numerator, base.denominator
            frames[row]["width"], frames[row]["height"], frames[row]["attempt"] = picture.width, picture.height, 1
        engine.submit(0, 0, len(rows))
        while not engine.completed():
            engine.wait(100)
        fields = {name: values[: len(rows)].copy() for name, values in {**results, **beside}.items()}
        batches.append(Batch(frames, fields))
    engine.close()
    media.close()
    return batches, stream


if __name__ == "__main__":
    print(json.dumps(measure_task(json.loads(sys.argv[1]))))

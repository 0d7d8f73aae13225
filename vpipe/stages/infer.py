"""The infer stage: keeps the model busy.

Tensor slots are the model's input memory and result slots its output memory. A tensor slot is given back only after
its result is committed and announced, so nothing is lost when this worker dies.
"""

from __future__ import annotations

import time
from pathlib import Path

from vpipe.engine import Manifest, open_engine
from vpipe.errors import RunError
from vpipe.ring import ReadLoan, WriteLoan
from vpipe.worker import BEAT_MS, Context


def run(context: Context) -> None:
    """Feed the engine until the supervisor says stop."""
    settings = context.assignment["settings"]
    (reader,) = context.readers.values()
    (writer,) = context.writers.values()
    companions = {field.name for field in reader.spec.layout.fields} & {field.name for field in writer.spec.layout.fields}
    counters = context.counters
    options = dict(settings["engine"])
    path = options.pop("manifest")
    manifest = None if path is None else Manifest.load(Path(path))
    engine = open_engine(manifest, **options, batch=reader.spec.layout.capacity)
    engine.bind(
        [{f.name: reader.slot_array(slot, f.name) for f in reader.spec.layout.fields} for slot in range(reader.spec.slots)],
        [{f.name: writer.slot_array(slot, f.name) for f in writer.spec.layout.fields} for slot in range(writer.spec.slots)],
    )
    context.watch(engine.fileno())
    flying: dict[int, tuple[ReadLoan, WriteLoan, int]] = {}
    context.ready()
    while True:
        finished = []
        for completion in engine.completed():
            tensor, result, began_ns = flying.pop(completion.tensor_slot)
            if completion.error is not None:
                raise RunError(f"inference failed: {completion.error}")
            counters.observe(time.monotonic_ns() - began_ns)
            counters.add("frames", tensor.count)
            counters.add("items", 1)
            result.commit()
            finished.append(tensor)
        writer.flush()
        for tensor in finished:
            tensor.release()
        while engine.idle and writer.ready and (tensor := reader.take()) is not None:
            result = writer.loan()
            result.count = tensor.count
            result.frames[: tensor.count] = tensor.frames
            for name in companions:
                result.field(name)[: tensor.count] = tensor.field(name)
            flying[tensor.slot] = (tensor, result, time.monotonic_ns())
            engine.submit(tensor.slot, result.slot, tensor.count)
        reader.flush()
        context.wait(BEAT_MS)

"""The infer stage: keeps the model busy.

Tensor slots are the model's input memory and result slots its output memory. A tensor slot is given back only after
its result is committed and announced, so nothing is lost when this worker dies.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from vpipe.engine import Engine, Manifest, Setup, open_engine
from vpipe.errors import RunError
from vpipe.frame import PICTURE, FrameFlag, copy_headers
from vpipe.ring import ReadLoan, WriteLoan
from vpipe.trace import Span
from vpipe.worker import BEAT_MS, Context

_CARRIED, _PICTURE = int(FrameFlag.CARRIED), int(FrameFlag.PICTURE)


def run(context: Context) -> None:
    """Feed the engine until the supervisor says stop."""
    options = dict(context.assignment["settings"]["engine"])
    values = options.pop("manifest")
    manifest = None if values is None else Manifest.from_dict(values)
    (reader,) = context.readers.values()
    engine = open_engine(manifest, Setup(**options, batch=reader.spec.layout.capacity))
    _serve(context, engine, recurrent=manifest is not None and manifest.recurrent)


@dataclasses.dataclass
class _Flight:
    """A batch between its tensor slot and its result slot."""

    tensor: ReadLoan
    result: WriteLoan
    began_ns: int
    done: bool


def _serve(context: Context, engine: Engine, *, recurrent: bool) -> None:
    (reader,) = context.readers.values()
    (writer,) = context.writers.values()
    arriving = [field.name for field in reader.spec.layout.fields]
    leaving = [field.name for field in writer.spec.layout.fields]
    # Companions pass by the model; the engine must not take them for its own.
    companions = (set(arriving) & set(leaving)) - {arriving[0]}
    inputs = [name for name in arriving if name not in companions]
    outputs = [name for name in leaving if name not in companions]
    has_picture = PICTURE in companions
    companions.discard(PICTURE)
    counters = context.counters
    engine.bind(reader.slot_arrays(inputs), writer.slot_arrays(outputs))
    context.watch(engine.fileno())
    hang_s: float = context.assignment["settings"]["hang_s"]
    hang_ns = int(hang_s * 1e9)
    moved_ns = 0
    flying: dict[int, _Flight] = {}  # in the order of their batches, which is that of every stream's frames
    context.ready()
    while True:
        for completion in engine.completed():
            flight = flying[completion.tensor_slot]
            if completion.error is not None:
                raise RunError(f"inference failed: {completion.error}")
            moved_ns = time.monotonic_ns()
            counters.observe(moved_ns - flight.began_ns)
            if context.trace is not None:
                context.trace.note((Span.INFER, flight.tensor.count, flight.began_ns, moved_ns))
            flight.done = True
        finished = []
        while flying and (flight := next(iter(flying.values()))).done:
            counters.add("frames", flight.tensor.count)
            counters.add("items", 1)
            flight.result.commit()
            finished.append(flying.pop(flight.tensor.slot).tensor)
        if flying and time.monotonic_ns() - moved_ns > hang_ns:
            raise RunError(
                f"no batch has come out of the engine for {hang_s:g} s; raise run.hang_s if the model is that slow"
            )
        writer.flush()
        for tensor in finished:
            tensor.release()
        while engine.idle and writer.ready:
            taken = reader.take()
            if taken is None:
                break
            result = writer.loan()
            result.count = taken.count
            copy_headers(taken.frames, result.frames[: taken.count])
            for name in companions:
                result.field(name)[: taken.count] = taken.field(name)
            if has_picture:
                rows = np.flatnonzero(taken.frames["flags"] & _PICTURE)
                result.field(PICTURE)[rows] = taken.field(PICTURE)[rows]
            now_ns = time.monotonic_ns()
            if not flying:
                moved_ns = now_ns
            carried = int(np.count_nonzero(taken.frames["flags"] & _CARRIED))
            flight = _Flight(taken, result, now_ns, done=carried == taken.count)
            flying[taken.slot] = flight
            if not flight.done:
                # A retry of a segment and a new epoch start with no memory, so that results do not depend on deaths.
                streams = taken.frames[["stream", "segment", "attempt", "epoch"]].tolist() if recurrent else None
                with counters.part:
                    engine.submit(taken.slot, result.slot, taken.count - carried, streams)
        at_once = bool(flying) and next(iter(flying.values())).done  # a batch of carried frames only
        if at_once or engine.idle:
            engine.watch()
            context.wait(0.0 if at_once else BEAT_MS, what=Span.WAIT_MODEL if flying else Span.WAIT_FRAME)
        else:
            context.wait(BEAT_MS, what=Span.WAIT_MODEL, sleep=engine.wait)

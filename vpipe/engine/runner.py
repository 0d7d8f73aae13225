"""Batches through a model compiled by OpenVINO.

A batch is computed as requests of `chunk` frames each, and the model is compiled for just that one shape. On a CPU the
chunk is a single frame: there a small net takes the same CPU time a frame in a batch of 1 as in one of 16 (measured),
so a larger shape would only pay for padding when a batch is not full. A dynamic shape would not pay, but picks its
kernels by batch size: the same frame then gets other last bits in another batch, and results must not depend on how
frames happened to meet. Other devices want large shapes, so there the chunk is the whole batch, padded.

Tensors are lent to OpenVINO where they lie: ring slots are its input and output memory. Every result slot has requests
of its own, so that outputs are set once for good: to set eight of them anew for each frame takes 30 us. All requests of
a batch are queued at once, and one wait a batch is for all of them: the caller's, where it has nothing else to do, or
that of a thread which makes a descriptor readable. OpenVINO's callbacks are not used: each takes the interpreter's lock
in another thread (20 us), none comes when a request fails, and closing a model while one returns deadlocks or aborts
(OpenVINO 2026.4).

A recurrent model takes one frame at a time. Frames of different streams are computed side by side; one whose
predecessor is still in flight waits here for it, and `completed` starts it.
"""

from __future__ import annotations

import atexit
import dataclasses
import select
import threading
from collections import deque
from collections.abc import Hashable, Sequence
from queue import SimpleQueue
from typing import Any

from vpipe.engine.base import Arrays, Completion, Setup
from vpipe.engine.manifest import Manifest
from vpipe.engine.openvino import InferRequest, Tensor, compile_model, open_core, port_of, reason_of
from vpipe.engine.prepare import prepare
from vpipe.engine.states import States
from vpipe.errors import ModelError
from vpipe.layout import Field
from vpipe.wakeup import WakeUp


@dataclasses.dataclass(slots=True)
class _Flight:
    """The place of a batch in flight, that of its result slot: requests for all its chunks."""

    requests: list[InferRequest]
    results: list[list[Tensor]]
    """What the requests' outputs are set to, which does not keep it alive: by chunk and output."""
    tensor_slot: int = -1
    """What the requests' inputs are set to."""
    used: int = 0
    """Requests in use, the first ones."""


class OpenVinoEngine:
    """A compiled model and its requests; see `vpipe.engine.open_engine` for the arguments."""

    def __init__(self, manifest: Manifest, setup: Setup) -> None:
        if manifest.recurrent and setup.batch != 1:
            raise ModelError(f"{manifest.name} is recurrent and takes one frame at a time: set batch.max_size to 1")
        self._manifest = manifest
        self._batch = setup.batch
        self._free = setup.requests
        self.chunk = setup.chunk
        """Frames of one request."""
        core = open_core()
        self._compiled = compile_model(core, prepare(core, manifest, self.chunk), manifest, setup)
        self._inputs = [port_of(self._compiled.inputs, i.name, manifest) for i in manifest.inputs]
        self._outputs = [port_of(self._compiled.outputs, o.name, manifest) for o in manifest.outputs]
        self._memories = [
            (
                port_of(self._compiled.inputs, state.input, manifest),
                port_of(self._compiled.outputs, state.output, manifest),
            )
            for state in manifest.states
        ]
        self._states: States | None = None
        self._flights: list[_Flight] = []
        """By result slot."""
        self._flying: deque[int] = deque()
        """Batches in flight for which nobody waits yet, the oldest first."""
        self._watched = 0
        """Batches that the thread waits for, or that have landed."""
        self._wake = WakeUp()
        self._woken = select.poll()
        self._woken.register(self._wake.fileno(), select.POLLIN)
        self._started: SimpleQueue[int | None] = SimpleQueue()
        self._landed: deque[tuple[int, str | None]] = deque()
        arguments = (self._flights, self._started, self._landed, self._wake)
        self._thread: threading.Thread | None = threading.Thread(target=_watch, args=arguments, daemon=True)
        self._thread.start()
        # The interpreter must not end while a thread of its own is inside OpenVINO: that aborts the process.
        atexit.register(self.close)
        self._tensors: list[list[list[Tensor]]] = []

    @property
    def idle(self) -> int:
        """How many more batches `submit` takes now."""
        return self._free

    def bind(self, tensors: Sequence[Arrays], results: Sequence[Arrays]) -> None:
        """Learn the arrays of every tensor slot and result slot, each (capacity, ...); they are used where they lie.

        Raises:
            ModelError: An array does not fit the model's input or output of its name.
        """
        inputs, outputs = self._manifest.input_fields, self._manifest.output_fields
        self._tensors = [self._lend(slot, inputs, self._inputs) for slot in tensors]
        for slot in results:
            chunks = self._lend(slot, outputs, self._outputs)
            flight = _Flight([self._compiled.create_infer_request() for _ in chunks], chunks)
            for request, chunk in zip(flight.requests, chunks, strict=True):
                for port, tensor in zip(self._outputs, chunk, strict=True):
                    request.set_tensor(port, tensor)
            self._flights.append(flight)
        if self._memories:
            self._states = States([tuple(port.shape) for port, _ in self._memories], len(results))

    def _lend(self, slot: Arrays, fields: Sequence[Field], ports: Sequence[Any]) -> list[list[Tensor]]:
        """Wrap one slot's arrays: for each chunk, a tensor for each field."""
        chunks: list[list[Tensor]] = [[] for _ in range(-(-self._batch // self.chunk))]
        for field, port in zip(fields, ports, strict=True):
            array = slot.get(field.name)
            if array is None or array.shape != (self._batch, *field.shape) or array.dtype != field.dtype:
                got = "none" if array is None else f"{array.dtype.str}{list(array.shape)}"
                raise ModelError(
                    f"slot array {field.name}: {got}, but {self._manifest.name} needs "
                    f"{field.dtype}{[self._batch, *field.shape]}"
                )
            for i, chunk in enumerate(chunks):
                # The model's own shape may have extra axes of one; as a view, never as a copy.
                part = array[i * self.chunk : (i + 1) * self.chunk].view()
                part.shape = tuple(port.shape)
                chunk.append(Tensor(part, shared_memory=True))
        return chunks

    def submit(self, tensor_slot: int, result_slot: int, count: int, streams: Sequence[Hashable] | None = None) -> None:
        """Start the model on the first `count` frames of a tensor slot; needs `idle` above 0.

        `streams` tells for each frame whose memory a recurrent model goes on with; None: all are of one stream.
        """
        self._free -= 1
        flight = self._flights[result_slot]
        flight.used = -(-count // self.chunk)
        if flight.tensor_slot != tensor_slot:
            flight.tensor_slot = tensor_slot
            for request, tensors in zip(flight.requests, self._tensors[tensor_slot], strict=True):
                for port, tensor in zip(self._inputs, tensors, strict=True):
                    request.set_tensor(port, tensor)
        if self._states is None or self._states.board(result_slot, streams[0] if streams else None):
            self._start(result_slot)

    def _start(self, number: int) -> None:
        flight = self._flights[number]
        if self._states is not None:
            (request,) = flight.requests
            for ports, taken, given in zip(self._memories, *self._states.memory(number), strict=True):
                request.set_tensor(ports[0], Tensor(taken, shared_memory=True))
                request.set_tensor(ports[1], Tensor(given, shared_memory=True))
        for request in flight.requests[: flight.used]:
            request.start_async()
        self._flying.append(number)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a watched batch is complete."""
        return self._wake.fileno()

    def watch(self) -> None:
        """Have the descriptor tell of the batches in flight; call it before waiting for that."""
        while self._flying:
            self._watched += 1
            self._started.put(self._flying.popleft())

    def wait(self, timeout_ms: float) -> None:
        """Wait until a batch is complete, at most so long.

        Without the thread, which takes two hand-overs a batch: 0.1 ms, that is 5 % of a small net (measured).
        """
        if self._watched:  # those are older
            self._woken.poll(timeout_ms)
        elif self._flying:
            flight = self._flights[self._flying[0]]
            if _lands(flight, timeout_ms):
                self._watched += 1
                self._landed.append((self._flying.popleft(), _outcome(flight)))
                self._wake.set()

    def completed(self) -> list[Completion]:
        """Return what has been completed since the last call, and clear the wake-up."""
        self._wake.clear()  # before looking: what lands from here on wakes again
        found = []
        while self._landed:
            number, error = self._landed.popleft()
            self._watched -= 1
            flight = self._flights[number]
            found.append(Completion(flight.tensor_slot, number, error))
            self._free += 1
            if self._states is not None:
                following = self._states.land(number, good=error is None)
                if following is not None:
                    self._start(following)
        return found

    def close(self) -> None:
        """Wait for what is in flight and let go of every slot."""
        if self._thread is None:
            return
        self.watch()
        self._started.put(None)
        self._thread.join()
        self._thread = None
        atexit.unregister(self.close)
        # Requests hold the tensors they were lent, and those the slots' memory.
        self._flights.clear()
        self._tensors.clear()
        if self._states is not None:
            self._states.clear()
        self._wake.close()


def _watch(
    flights: list[_Flight], started: SimpleQueue[int | None], landed: deque[tuple[int, str | None]], wake: WakeUp
) -> None:
    """Wait for batches in the order they were started, until there is None."""
    while (number := started.get()) is not None:
        landed.append((number, _outcome(flights[number])))
        wake.set()


def _lands(flight: _Flight, timeout_ms: float) -> bool:
    """Wait for a batch's last request; returns whether it is done."""
    try:
        return bool(flight.requests[flight.used - 1].wait_for(int(timeout_ms)))
    except RuntimeError:
        return True


def _outcome(flight: _Flight) -> str | None:
    """Wait for a batch; returns why it failed, if it did."""
    error = None
    # The last first: one sleep a batch, for when it is done the others are, or will be within a request's time.
    for request in reversed(flight.requests[: flight.used]):
        try:
            request.wait()
        except RuntimeError as failure:
            error = reason_of(failure)
    return error

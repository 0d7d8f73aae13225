"""Models on OpenVINO; the one door to it.

A batch is computed as requests of `chunk` frames each, and the model is compiled for just that one shape. On a CPU the
chunk is a single frame: there a small net takes the same CPU time a frame in a batch of 1 as in one of 16 (measured),
so a larger shape would only pay for padding when a batch is not full. A dynamic shape would not pay, but picks its
kernels by batch size: the same frame then gets other last bits in another batch, and results must not depend on how
frames happened to meet. Other devices want large shapes, so there the chunk is the whole batch, padded.

Tensors are lent to OpenVINO where they lie: ring slots are its input and output memory. All requests of a batch are
queued at once, and one thread waits for them, once a batch. OpenVINO's callbacks are not used: each takes the
interpreter's lock in another thread (20 us), none comes when a request fails, and closing a model while one returns
deadlocks or aborts (OpenVINO 2026.4).
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from vpipe.engine.base import Arrays, Completion, WakeUp
from vpipe.engine.manifest import DTYPES, Input, Manifest
from vpipe.errors import ModelError, ResourceError
from vpipe.layout import Field
from vpipe.log import log


@contextlib.contextmanager
def _without_converter() -> Iterator[None]:
    """Keep `import openvino` from loading its model converter, which it treats as optional.

    It takes half of the import's time (100 ms of a start-up budget of one second) and brings the telemetry client in.
    """
    name = "openvino.tools.ovc"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


with _without_converter():
    import openvino as ov
    from openvino import preprocess

TYPES = {name: getattr(ov.Type, name) for name in DTYPES}

COMPOSITE = ("AUTO", "HETERO", "MULTI", "BATCH")


@dataclasses.dataclass(slots=True)
class _Flight:
    """One place for a batch in flight: requests for all its chunks."""

    requests: list[ov.InferRequest]
    tensor_slot: int = -1
    result_slot: int = -1
    used: int = 0
    """Requests in use, the first ones."""


class OpenVinoEngine:
    """A compiled model and its requests; see `vpipe.engine.open_engine` for the arguments."""

    def __init__(
        self,
        manifest: Manifest,
        *,
        device: str = "CPU",
        streams: int = 1,
        threads: int = 1,
        requests: int = 2,
        precision: str = "f32",
        batch: int = 1,
        cache_dir: Path | None = None,
    ) -> None:
        manifest.verify()
        self._manifest = manifest
        self._batch = batch
        core = ov.Core()
        settings = _settings(core, device, streams, threads, precision)
        self.chunk = 1 if device == "CPU" else batch
        """Frames of one request."""
        self._compiled = _compile(core, _prepare(core, manifest, self.chunk), device, settings, manifest, cache_dir)
        self._inputs = [self._compiled.input(i.name).shape for i in manifest.inputs]
        self._outputs = [_port(self._compiled.outputs, o.name, manifest) for o in manifest.outputs]
        per_batch = -(-batch // self.chunk)
        self._flights = [
            _Flight([self._compiled.create_infer_request() for _ in range(per_batch)]) for _ in range(requests)
        ]
        self._free = list(range(requests))
        self._wake = WakeUp()
        self._started: SimpleQueue[int | None] = SimpleQueue()
        self._landed: deque[tuple[int, str | None]] = deque()
        arguments = (self._flights, self._started, self._landed, self._wake)
        self._thread: threading.Thread | None = threading.Thread(target=_watch, args=arguments, daemon=True)
        self._thread.start()
        # The interpreter must not end while a thread of its own is inside OpenVINO: that aborts the process.
        atexit.register(self.close)
        self._tensors: list[list[list[ov.Tensor]]] = []
        self._results: list[list[list[ov.Tensor]]] = []

    @property
    def idle(self) -> int:
        """How many more batches `submit` takes now."""
        return len(self._free)

    def bind(self, tensors: Sequence[Arrays], results: Sequence[Arrays]) -> None:
        """Learn the arrays of every tensor slot and result slot, each (capacity, ...); they are used where they lie.

        Raises:
            ModelError: An array does not fit the model's input or output of its name.
        """
        inputs, outputs = self._manifest.input_fields, self._manifest.output_fields
        self._tensors = [self._lend(slot, inputs, self._inputs) for slot in tensors]
        self._results = [self._lend(slot, outputs, [port.shape for port in self._outputs]) for slot in results]

    def _lend(self, slot: Arrays, fields: Sequence[Field], shapes: Sequence[Sequence[int]]) -> list[list[ov.Tensor]]:
        """Wrap one slot's arrays: for each chunk, a tensor for each field."""
        chunks: list[list[ov.Tensor]] = [[] for _ in range(-(-self._batch // self.chunk))]
        for field, shape in zip(fields, shapes, strict=True):
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
                part.shape = tuple(shape)
                chunk.append(ov.Tensor(part, shared_memory=True))
        return chunks

    def submit(self, tensor_slot: int, result_slot: int, count: int) -> None:
        """Start the model on the first `count` frames of a tensor slot; needs `idle` above 0."""
        number = self._free.pop()
        flight = self._flights[number]
        flight.tensor_slot, flight.result_slot = tensor_slot, result_slot
        flight.used = -(-count // self.chunk)
        tensors, results = self._tensors[tensor_slot], self._results[result_slot]
        for chunk, request in enumerate(flight.requests[: flight.used]):
            for i, tensor in enumerate(tensors[chunk]):
                request.set_input_tensor(i, tensor)
            for i, tensor in enumerate(results[chunk]):
                request.set_tensor(self._outputs[i], tensor)
            request.start_async()
        self._started.put(number)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a batch is complete."""
        return self._wake.fileno()

    def completed(self) -> list[Completion]:
        """Return what has been completed since the last call, and clear the wake-up."""
        self._wake.clear()  # before looking: what lands from here on wakes again
        found = []
        while self._landed:
            number, error = self._landed.popleft()
            flight = self._flights[number]
            found.append(Completion(flight.tensor_slot, flight.result_slot, error))
            self._free.append(number)
        return found

    def close(self) -> None:
        """Wait for what is in flight and let go of every slot."""
        if self._thread is None:
            return
        self._started.put(None)
        self._thread.join()
        self._thread = None
        atexit.unregister(self.close)
        # Requests hold the tensors they were lent, and those the slots' memory.
        self._flights.clear()
        self._tensors.clear()
        self._results.clear()
        self._wake.close()


def _watch(
    flights: list[_Flight], started: SimpleQueue[int | None], landed: deque[tuple[int, str | None]], wake: WakeUp
) -> None:
    """Wait for batches in the order they were started, until there is None."""
    while (number := started.get()) is not None:
        flight = flights[number]
        error = None
        # The last first: one sleep a batch, for when it is done the others are, or will be within a request's time.
        for request in reversed(flight.requests[: flight.used]):
            try:
                request.wait()
            except RuntimeError as failure:
                error = _reason(failure)
        landed.append((number, error))
        wake.set()


def _settings(core: ov.Core, device: str, streams: int, threads: int, precision: str) -> dict[str, Any]:
    """Return the properties for a device; never a performance hint, which would override streams and threads."""
    wanted: dict[str, Any] = {"NUM_STREAMS": str(streams)}
    if device.partition(".")[0] == "CPU":
        # Not pinned: decode workers share the cores, and a pinned thread waits for its own core while others are free.
        wanted |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    if precision != "auto":
        wanted["INFERENCE_PRECISION_HINT"] = precision
    if device.partition(":")[0] in COMPOSITE:
        return {}
    try:
        known = core.get_property(device, "SUPPORTED_PROPERTIES")
        able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise _no_device(core, device, error) from None
    if precision in ("bf16", "f16") and {"bf16": "BF16", "f16": "FP16"}[precision] not in able:
        name = core.get_property(device, "FULL_DEVICE_NAME")
        raise ResourceError(
            f"infer.precision: {precision} is not to be had on {device} ({name}), which computes "
            f"{', '.join(able)}; use auto or f32"
        )
    return {name: value for name, value in wanted.items() if name in known}


def _no_device(core: ov.Core, device: str, error: RuntimeError) -> ResourceError:
    there = ", ".join(core.available_devices) or "none"
    return ResourceError(f"infer.device: {device} is not to be had ({_reason(error)}); available here: {there}")


def _reason(error: BaseException) -> str:
    """Return the part of an OpenVINO message that says something: its last line that is not a place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if not re.match(r"(Exception from|Check '.*' failed at|Check .* failed at) ", line)
    ]
    return (telling or lines or [type(error).__name__])[-1]


def _port(ports: Sequence[Any], name: str, manifest: Manifest) -> Any:
    """Return the model's input or output of that name."""
    for port in ports:
        if name in port.get_names() or name == port.get_node().get_friendly_name():
            return port
    there = ", ".join("/".join(sorted(port.get_names())) or port.get_node().get_friendly_name() for port in ports)
    raise ModelError(f"{manifest.path}: {manifest.file} has no input or output {name}; it has {there}")


def _prepare(core: ov.Core, manifest: Manifest, chunk: int) -> ov.Model:
    """Read the model, fold its preprocessing in, and give it its one shape.

    Raises:
        ModelError: The file is damaged, or does not fit the manifest.
    """
    try:
        model = core.read_model(manifest.model_path)
    except RuntimeError as error:
        raise ModelError(f"{manifest.model_path}: cannot be read as a model: {_reason(error)}") from None
    if len(model.inputs) != len(manifest.inputs):
        named = ", ".join(i.name for i in manifest.inputs)
        raise ModelError(f"{manifest.path}: inputs are {named}, but {manifest.file} has {len(model.inputs)}")
    steps = preprocess.PrePostProcessor(model)
    shapes = {}
    for wanted in manifest.inputs:
        port = _port(model.inputs, wanted.name, manifest)
        name = port.get_any_name()
        shapes[name] = [chunk, *_fold(steps.input(name), wanted, port, manifest)]
    for output in manifest.outputs:
        index = model.outputs.index(_port(model.outputs, output.name, manifest))
        steps.output(index).tensor().set_element_type(TYPES[output.dtype])
    try:
        model = steps.build()
        model.reshape(shapes)
    except RuntimeError as error:
        given = ", ".join(f"{i.name} {list(i.shape)}" for i in manifest.inputs)
        raise ModelError(f"{manifest.path}: inputs {given} do not fit {manifest.file}: {_reason(error)}") from None
    for output in manifest.outputs:
        shape = _port(model.outputs, output.name, manifest).get_partial_shape()
        expected = (chunk, *output.shape[1:])
        if shape.is_dynamic or _solid(shape.to_shape()) != _solid(expected):
            raise ModelError(
                f"{manifest.path}: output {output.name} of {manifest.file} has shape {shape} for {chunk} frames, "
                f"but the manifest says {list(output.shape)}; correct the manifest"
            )
    return model


def _solid(shape: Sequence[int]) -> list[int]:
    """Return a shape without its axes of one, which change no byte."""
    return [size for size in shape if size != 1]


def _fold(step: Any, wanted: Input, port: Any, manifest: Manifest) -> list[int]:
    """Describe an input as the view delivers it and what is still to be done to it; returns its shape without batch."""
    step.tensor().set_element_type(TYPES[wanted.dtype])
    shape, axes = list(wanted.shape[1:]), wanted.layout
    if axes is None:
        if port.get_partial_shape().rank.is_dynamic:
            return shape
        # Where the model has extra axes of one, its own shape is used; the bytes are the same.
        own = [0 if size.is_dynamic else size.get_length() for size in port.get_partial_shape()][1:]
        if 0 not in own and _solid(own) == _solid(shape):
            shape = own
    else:
        model_axes = wanted.model_layout or axes
        if "C" in model_axes and "C" not in axes:
            axes, shape = axes + "C", [*shape, 1]
        step.tensor().set_layout(ov.Layout(axes))
        step.model().set_layout(ov.Layout(model_axes))
    if wanted.mean or wanted.scale or wanted.model_color:
        step.preprocess().convert_element_type(ov.Type.f32)
    if wanted.model_color and wanted.model_color != wanted.color:
        step.preprocess().reverse_channels()
    for numbers, fold in ((wanted.mean, step.preprocess().mean), (wanted.scale, step.preprocess().scale)):
        if numbers:
            fold(numbers[0] if len(numbers) == 1 else list(numbers))
    return shape


def _compile(
    core: ov.Core, model: ov.Model, device: str, settings: dict[str, Any], manifest: Manifest, cache_dir: Path | None
) -> ov.CompiledModel:
    """Compile for the device, with the cache if it can be used.

    Raises:
        ResourceError: There is no such device.
        ModelError: The device cannot run this model.
    """
    cache = _cache(cache_dir)
    for settings_now in ([settings | {"CACHE_DIR": str(cache)}] if cache else []) + [settings]:
        try:
            return core.compile_model(model, device, settings_now)
        except RuntimeError as error:
            failure = error
            log.debug("compiling %s for %s: %s", manifest.model_path, device, error)
    named = re.sub(r"\(\d+\)", "", device.partition(":")[2]).split(",") if ":" in device else [device]
    there = core.available_devices
    if any(name and name not in there and f"{name}.0" not in there for name in named):
        raise _no_device(core, device, failure)
    raise ModelError(f"{manifest.model_path}: cannot be compiled for {device}: {_reason(failure)}") from None


def _cache(asked: Path | None) -> Path | None:
    """Return the directory for compiled models, or None where there can be none; a cache may only ever save time."""
    try:
        path = asked or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vpipe" / "models"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return path if os.access(path, os.W_OK | os.X_OK) else None

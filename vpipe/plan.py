"""A run, resolved for this machine and frozen; building it starts nothing.

The plan knows the cores, the workers, every ring's layout and the memory that they take together. It reads model
manifests, never models.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vpipe.config import BatchConfig, BranchConfig, InferConfig, PipelineConfig
from vpipe.engine.manifest import Manifest
from vpipe.engine.store import find_manifest
from vpipe.errors import ConfigError
from vpipe.host import Host
from vpipe.layout import Field, SlotLayout
from vpipe.task import Task
from vpipe.view import view_fields
from vpipe.viewconfig import ViewConfig

MIB = 1 << 20

TOGETHER = 4
"""Frames that go through a frame ring in one slot, where every frame is wanted: decoding drives all else out of the
caches, and what hands frames on is fetched once for all of them."""


@dataclasses.dataclass(frozen=True)
class InferPlan:
    """How a branch's model runs."""

    device: str
    streams: int
    threads: int
    requests: int
    precision: str


@dataclasses.dataclass(frozen=True)
class BranchPlan:
    """One branch with everything resolved."""

    name: str
    sample: str
    """What of the source's frames it takes."""
    every: int
    """The model runs on every Nth of these."""
    max_every: int
    """Live, with too much to do: on every Nth of those that are left."""
    view: ViewConfig
    manifest: Manifest | None
    """None for the null engine."""
    infer: InferPlan
    batch_size: int
    max_wait_ms: float
    frame_layout: SlotLayout
    tensor_layout: SlotLayout
    result_layout: SlotLayout
    frame_slots: int
    batch_slots: int
    task: str
    task_version: str
    frame_key: dict[str, Any]
    """What of the task decides its columns: its frame version and options; empty where it has none."""
    options: dict[str, Any]

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Labels of the model's outputs, by output name."""
        if self.manifest is None:
            return {}
        return {output.name: tuple(output.labels) for output in self.manifest.outputs}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole run."""

    config: PipelineConfig
    host: Host
    decode_workers: int
    branches: tuple[BranchPlan, ...]
    live: bool = False
    """For live streams: then a decode worker is a stream's seat, and there are as many as there may be streams."""

    @property
    def ring_bytes(self) -> int:
        """Shared memory of all rings together."""
        total = 0
        for branch in self.branches:
            total += self.decode_workers * branch.frame_slots * branch.frame_layout.slot_bytes
            total += branch.batch_slots * (branch.tensor_layout.slot_bytes + branch.result_layout.slot_bytes)
        return total

    def facts(self) -> dict[str, Any]:
        """Return what a trace tells of its run."""
        return {
            "pipeline": self.config.name,
            "cores": self.host.cores,
            "cpu": self.host.cpu,
            "plan": self.lines(),
        }

    def lines(self) -> list[str]:
        """Return the plan for people, a fact a line."""
        cores = f"{self.host.cores} cores of {self.host.cpu}"
        out = [f"pipeline {self.config.name} on {cores}", f"  sample    {self.config.source.sample}"]
        threads = "one or more decoder threads by what is left to do"
        if self.live:
            threads = f"one for each stream there is, {self.config.live.threads} decoder threads"
        out.append(f"  decode    {self.decode_workers} workers, {threads}")
        for branch in self.branches:
            model = "null" if branch.manifest is None else f"{branch.manifest.name} {branch.manifest.version}"
            infer = branch.infer
            view = " ".join(f"{f.name} {'x'.join(map(str, f.shape))}" for f in branch.frame_layout.fields)
            out += [
                f"  branch    {branch.name}",
                f"    view    {branch.view.kind}: {view}; {branch.frame_slots} slots of "
                f"{branch.frame_layout.slot_bytes / 1024:.0f} KiB a worker, {branch.frame_layout.capacity} frames each",
                f"    batch   {branch.batch_size} frames or {branch.max_wait_ms:g} ms; {branch.batch_slots} slots",
                f"    infer   {model} on {infer.device}, {infer.streams} streams, {infer.threads} threads, "
                f"{infer.requests} requests in flight, precision {infer.precision}",
                f"    task    {branch.task}",
            ]
        out.append(f"  memory    {self.ring_bytes / MIB:.1f} MiB of shared memory for rings")
        for sink in self.config.sinks:
            out.append(f"  sink      {sink.kind} {sink.path}".rstrip())
        return out


def resolve(config: PipelineConfig, base: Path, host: Host | None = None, *, live: bool = False) -> Plan:
    """Turn a checked pipeline file into a plan for this machine.

    Args:
        config: The pipeline.
        base: The directory that model paths are relative to (the pipeline file's own).
        host: The machine; detected when not given.
        live: For live streams: `[live]` replaces what it is in the place of.

    Raises:
        ConfigError: A view does not fit its model.
        ModelError: A manifest is missing or broken.
    """
    host = host or Host.detect()
    if live:
        config = _for_live(config)
    workers = config.decode.workers if isinstance(config.decode.workers, int) else host.cores
    branches = tuple(
        _resolve_branch(branch, index, config, base, host, workers, live)
        for index, branch in enumerate(config.branches)
    )
    if live:  # a batch that waits is latency: no more of them than the engine has in hand, and one to fill or to read
        branches = tuple(dataclasses.replace(branch, batch_slots=branch.infer.requests + 1) for branch in branches)
    return Plan(config=config, host=host, decode_workers=workers, branches=branches, live=live)


def _for_live(config: PipelineConfig) -> PipelineConfig:
    """Return a pipeline with the values of `[live]` in their places."""
    live = config.live

    def batch(branch: BranchConfig) -> BatchConfig:
        size = min(branch.batch.max_size, live.max_size, live.max_streams * live.slots)
        return branch.batch.model_copy(update={"max_size": size, "max_wait_ms": live.max_wait_ms})

    for index, branch in enumerate(config.branches):
        if (branch.sample or config.source.sample).startswith("n="):
            raise ConfigError(f"branches[{index}]: n=N is for files; live streams take every, keyframes or N/s")
    return config.model_copy(
        update={
            "decode": config.decode.model_copy(update={"workers": live.max_streams, "slots": live.slots}),
            "branches": tuple(branch.model_copy(update={"batch": batch(branch)}) for branch in config.branches),
            "run": config.run.model_copy(update={"hang_s": live.hang_s}),
        }
    )


def _resolve_branch(
    branch: BranchConfig, index: int, config: PipelineConfig, base: Path, host: Host, workers: int, live: bool
) -> BranchPlan:
    where = f"branches[{index}]"
    manifest = None
    if branch.infer.model != "null":
        manifest = Manifest.load(find_manifest(branch.infer.model, base))
    asked = _sized(branch.view, manifest, where)
    fields = view_fields(asked)
    view, companions = fields[0], fields[1:]
    if manifest is None:
        inputs: tuple[Field, ...] = (Field("input", view.dtype, view.shape),)
        outputs: tuple[Field, ...] = (Field("output", "<f4", (1,)),)
    else:
        manifest.check_view(asked, f"{where}.view")
        inputs, outputs = manifest.input_fields, manifest.output_fields
    if len(inputs) != 1 or inputs[0].shape != view.shape or inputs[0].dtype != view.dtype:
        wanted = ", ".join(f"{f.name} {f.dtype}{list(f.shape)}" for f in inputs)
        raise ConfigError(
            f"{where}.view: makes {view.dtype}{list(view.shape)}, but the model {branch.infer.model} wants {wanted}; "
            f"change the view, or choose a model made for it"
        )
    task = Task.load(branch.postprocess.task)
    options = dict(branch.postprocess.options)
    # A recurrent model needs what it made of a frame before it takes the stream's next.
    size = 1 if manifest is not None and manifest.recurrent else branch.batch.max_size
    sample = branch.sample or config.source.sample
    # Of a live stream every frame is due at once, and of a sampled film the next one is far.
    together = min(TOGETHER, size) if sample == "every" and not live else 1
    frame_slots = config.decode.slots if isinstance(config.decode.slots, int) else -(-(2 * size + 2) // together)
    # A batch holds its frames' slots until it is committed: fewer slots than a batch would only ever wait for time.
    if frame_slots * together * workers < size:
        raise ConfigError(
            f"decode.slots: {frame_slots} slots of {together} x {workers} workers cannot fill a batch of {size}; "
            f"raise decode.slots or lower {where}.batch.max_size"
        )
    infer = _resolve_infer(branch.infer, host)
    batch_slots = branch.batch.slots if isinstance(branch.batch.slots, int) else infer.requests + 3
    return BranchPlan(
        name=branch.name,
        sample=sample,
        every=branch.infer.every,
        max_every=config.live.max_every if task.carries else 1,
        view=asked,
        manifest=manifest,
        infer=infer,
        batch_size=size,
        max_wait_ms=branch.batch.max_wait_ms,
        frame_layout=SlotLayout(together, fields),
        tensor_layout=SlotLayout(size, inputs + companions),
        result_layout=SlotLayout(size, outputs + companions),
        frame_slots=frame_slots,
        batch_slots=batch_slots,
        task=branch.postprocess.task,
        task_version=task.version,
        frame_key=_frame_key(task, options),
        options=options,
    )


def _sized(view: ViewConfig, manifest: Manifest | None, where: str) -> ViewConfig:
    """Return a view with its size: where none is given, that of the model's one input."""
    if view.kind != "resize" or view.width is not None:
        return view
    shapes = [field.shape for field in manifest.input_fields] if manifest is not None else []
    if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
        raise ConfigError(f"{where}.view: has no width and height, and the model has no size of its own; give them")
    height, width = shapes[0][:2]
    return dataclasses.replace(view, width=width, height=height)


def _frame_key(task: type[Task], options: dict[str, Any]) -> dict[str, Any]:
    key = {name: options[name] for name in task.frame_options if name in options}
    return key | ({"version": task.frame_version} if task.frame_version else {})


def _resolve_infer(infer: InferConfig, host: Host) -> InferPlan:
    threads = infer.threads if isinstance(infer.threads, int) else host.cores
    # One thread a stream: a small net gains nothing from sharing one picture among cores, and loses the hand-overs.
    streams = infer.streams if isinstance(infer.streams, int) else threads
    requests = infer.requests if isinstance(infer.requests, int) else streams + 1
    precision = "f32" if infer.precision == "auto" else infer.precision
    return InferPlan(infer.device, streams, threads, requests, precision)

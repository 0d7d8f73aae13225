"""The processes and rings of a run, as the plan asks for them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

from vpipe.control import Message
from vpipe.memory import check_fits, create_memory, map_memory
from vpipe.metrics import PAGE_BYTES, Snapshot, peek, read
from vpipe.plan import BranchPlan, Plan
from vpipe.ring import Ring, RingSpec
from vpipe.ring.owner import Role
from vpipe.ring.records import COALESCE_S
from vpipe.supervisor.process import Forks, WorkerProcess

if TYPE_CHECKING:
    from vpipe.trace.tracer import Tracer

FILE_LIMIT_BYTES = 16 << 20
"""A worker that reads untrusted media may not fill the disk."""


class CounterPage:
    """A worker's counters, kept over its restarts."""

    def __init__(self, name: str) -> None:
        self.fd = create_memory(f"counters {name}", PAGE_BYTES)
        self._memory = map_memory(self.fd, PAGE_BYTES, f"counters {name}")
        self._last: Snapshot | None = None

    def read(self) -> Snapshot:
        """Return the counters as they are now; from any thread."""
        if self._last is None:
            with contextlib.suppress(ValueError):  # closed by the other thread just now
                return read(self._memory)
        assert self._last is not None
        return self._last

    def peek(self, name: str) -> int:
        """Return one of the counters as it is now, see `vpipe.metrics.peek`; only for the supervisor's thread."""
        return int(getattr(self._last, name)) if self._last is not None else peek(self._memory, name)

    def close(self) -> None:
        """Let go of the memory; the last figures stay readable."""
        if self._last is not None:
            return
        self._last = read(self._memory)
        with contextlib.suppress(BufferError):  # being read by another thread just now: freed when that is done
            self._memory.close()
        os.close(self.fd)


@dataclasses.dataclass
class Link:
    """A ring and the names of the workers at its ends."""

    ring: Ring
    writer: str
    reader: str
    generation: int = 1


@dataclasses.dataclass
class Node:
    """A worker's place in the graph; the process in it may change."""

    name: str
    stage: str
    settings: dict[str, Any]
    limits: dict[str, int]
    page: CounterPage
    process: WorkerProcess | None = None
    restarts: int = 0
    inherited: list[int] = dataclasses.field(default_factory=list)
    """Descriptors that its process gets besides those of its rings, under the same numbers."""

    @property
    def alive(self) -> bool:
        """Whether a process is there that has not been reaped."""
        return self.process is not None and not self.process.ended

    def silent_s(self) -> float:
        """Return how long its process has shown no life, in seconds."""
        assert self.process is not None
        heard = max(self.page.peek("beat_ns") * 1e-9, self.process.started)
        return time.monotonic() - heard


class Graph:
    """All nodes and links; starts and restarts processes on them."""

    def __init__(self, plan: Plan, out: str, sample: str, tracer: Tracer | None = None) -> None:
        check_fits(plan.ring_bytes, f"pipeline {plan.config.name}")
        self._tracer = tracer
        self.forks = Forks()
        self.nodes: dict[str, Node] = {}
        self.links: dict[str, Link] = {}
        try:
            self._build(plan, out, sample)
        except BaseException:
            self.close()
            raise

    def _build(self, plan: Plan, out: str, sample: str) -> None:
        decode = plan.config.decode
        settings = {
            "max_pixels": decode.max_pixels,
            "skip_loop_filter": decode.skip_loop_filter,
            "sample": sample,
        }
        self._add_decode(plan, "decode", settings, "every" if sample != "every" else None)
        self._add_branches(plan, "postprocess", {"out": out})

    def _add_decode(self, plan: Plan, stage: str, settings: Message, sample: str | None) -> None:
        """Add the decode workers; `sample` replaces those of the branches, where the stage itself has sampled."""
        # The memory limit is on address space, of which rings and libraries take their part without using it.
        memory = (plan.config.decode.memory_mb << 20) + plan.ring_bytes
        limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": FILE_LIMIT_BYTES, "RLIMIT_AS": memory}
        for index in range(plan.decode_workers):
            branches = [
                {
                    "name": branch.name,
                    "ring": f"frames[{index}].{branch.name}",
                    "view": branch.view.to_dict(),
                    "sample": sample or branch.sample,
                    "every": branch.every,
                }
                for branch in plan.branches
            ]
            place = {"number": index, "workers": plan.decode_workers}
            self._add(f"decode[{index}]", stage, {**settings, **place, "branches": branches}, limits)

    def _add_branches(self, plan: Plan, last: str, settings: Message) -> None:
        """Add all that comes after decoding; `last` is the stage that runs the tasks."""
        branches = {}
        for branch in plan.branches:
            self._add_branch(branch, plan, last)
            branches[branch.name] = {
                "ring": f"results.{branch.name}",
                "task": branch.task,
                "options": branch.options,
                "labels": branch.labels,
            }
        self._add(last, last, {**settings, "branches": branches}, {"RLIMIT_CORE": 0})

    def _add(self, name: str, stage: str, settings: dict[str, Any], limits: dict[str, int]) -> None:
        self.nodes[name] = Node(name, stage, settings, limits, CounterPage(name))

    def _add_branch(self, branch: BranchPlan, plan: Plan, last: str) -> None:
        gather, infer = f"preprocess.{branch.name}", f"infer.{branch.name}"
        ration = None
        if plan.live and branch.max_every > 1:
            ration = {"most": branch.max_every, "max_lag_ms": plan.config.live.max_lag_ms}
        self._add(gather, "preprocess", {"max_wait_ms": branch.max_wait_ms, "ration": ration}, {"RLIMIT_CORE": 0})
        manifest = None if branch.manifest is None else branch.manifest.to_dict()
        engine = {"manifest": manifest, **dataclasses.asdict(branch.infer)}
        self._add(infer, "infer", {"engine": engine, "hang_s": plan.config.run.hang_s}, {"RLIMIT_CORE": 0})
        # A batch waits for its frames anyway: waking preprocess for each one would only cost.
        coalesce_s = max(COALESCE_S, branch.max_wait_ms / 1e3 if branch.batch_size > 1 else 0.0)
        if plan.live:
            coalesce_s = 0.0  # but there the batch's time begins when preprocess sees its first frame
        for index in range(plan.decode_workers):
            spec = RingSpec(f"frames[{index}].{branch.name}", branch.frame_layout, branch.frame_slots, coalesce_s)
            self._link(spec, f"decode[{index}]", gather)
        self._link(RingSpec(f"tensors.{branch.name}", branch.tensor_layout, branch.batch_slots), gather, infer)
        self._link(RingSpec(f"results.{branch.name}", branch.result_layout, branch.batch_slots), infer, last)

    def _link(self, spec: RingSpec, writer: str, reader: str) -> None:
        ring = Ring.create(spec)
        self.links[spec.name] = Link(ring, writer, reader)
        if self._tracer is not None:
            self._tracer.ring(spec.name, ring.memory_fd, spec.slots, spec.layout.slot_bytes)

    def start(self, name: str, *, first: bool) -> WorkerProcess:
        """Start (or start again) the worker of a node; its living peers are told to resync its rings.

        The dead process must have been reaped: what it wrote last is then in memory for all to see.
        """
        node = self.nodes[name]
        readers: dict[str, Message] = {}
        writers: dict[str, Message] = {}
        descriptors = list(node.inherited)
        for link in self.links.values():
            if name not in (link.writer, link.reader):
                continue
            if not first:
                link.generation += 1
                peer = self.nodes[link.reader if name == link.writer else link.writer]
                if peer.alive and peer.process is not None:
                    order = {"op": "resync", "ring": link.ring.spec.name, "generation": link.generation}
                    peer.process.channel.send(order)
            role: Role = "writer" if name == link.writer else "reader"
            handle = link.ring.handle(role, link.generation, grant_all=first and role == "reader")
            (writers if role == "writer" else readers)[link.ring.spec.name] = handle
            descriptors += link.ring.descriptors(role)
        assignment: Message = {
            "settings": node.settings,
            "limits": node.limits,
            "readers": readers,
            "writers": writers,
        }
        if self._tracer is not None:
            page = self._tracer.page(name)
            assignment["trace"] = {"fd": page.fd, "since_ns": time.monotonic_ns()}
            descriptors.append(page.fd)
        node.process = WorkerProcess(self.forks, name, node.stage, assignment, descriptors, node.page.fd)
        return node.process

    def processes(self) -> list[WorkerProcess]:
        """Return the processes that have not been reaped."""
        return [node.process for node in self.nodes.values() if node.process is not None and not node.process.ended]

    def snapshots(self) -> dict[str, Snapshot]:
        """Return every worker's counters, by name."""
        return {name: node.page.read() for name, node in self.nodes.items()}

    def fills(self, reader: str) -> dict[str, float]:
        """Return how full each ring is that a worker reads, 0 to 1."""
        return {name: link.ring.fill() for name, link in self.links.items() if link.reader == reader}

    def close(self) -> None:
        """Close all rings; the processes must have ended."""
        self.forks.close()
        for link in self.links.values():
            link.ring.close()
        for node in self.nodes.values():
            node.page.close()

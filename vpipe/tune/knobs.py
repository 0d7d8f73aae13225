"""What may be turned, and to what: a few values around those that the plan chose."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from vpipe.plan import Plan

Settings = dict[str, Any]
"""Values by dotted path; what is not in it is as the pipeline file has it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Knob:
    """One thing to turn; some take several settings that only make sense together."""

    name: str
    options: Callable[[Plan], list[Settings]]
    """What could be tried, around a plan; the present state may be among them."""


def knobs_of(plan: Plan) -> list[Knob]:
    """Return the knobs of a pipeline, those that matter most first."""
    found = [Knob("decode workers", _workers)]
    for index, branch in enumerate(plan.branches):
        name = f" of {branch.name}" if len(plan.branches) > 1 else ""
        if branch.manifest is not None:
            found.append(Knob(f"streams{name}", functools.partial(_streams, index)))
        # A recurrent model takes one frame at a time.
        if branch.manifest is None or not branch.manifest.states:
            found.append(Knob(f"batch{name}", functools.partial(_batch, index)))
        found.append(Knob(f"requests{name}", functools.partial(_requests, index)))
        found.append(Knob(f"wait{name}", functools.partial(_wait, index)))
        if branch.manifest is not None:
            found.append(Knob(f"precision{name}", functools.partial(_precision, index)))
    found.append(Knob("slots", _slots))
    return found


def _workers(plan: Plan) -> list[Settings]:
    cores = plan.host.cores
    counts = sorted({max(1, cores - 1), cores, cores + 1, 2 * cores})
    return [{"decode.workers": count} for count in counts if count != plan.decode_workers]


def _streams(index: int, plan: Plan) -> list[Settings]:
    """Streams and threads together; requests follow, or streams would starve."""
    branch, at = plan.branches[index], f"branches.{index}"
    cores = plan.host.cores
    pairs = {(cores, cores), (1, cores), (1, 1), (max(1, cores // 2), max(1, cores // 2)), (max(1, cores - 1),) * 2}
    pairs.discard((branch.infer.streams, branch.infer.threads))
    return [
        {f"{at}.infer.streams": streams, f"{at}.infer.threads": threads, f"{at}.infer.requests": streams + 1}
        for streams, threads in sorted(pairs)
    ]


def _batch(index: int, plan: Plan) -> list[Settings]:
    branch, at = plan.branches[index], f"branches.{index}"
    found = []
    for size in (1, 4, 8, 16, 32):
        if size != branch.batch_size:
            # The slots follow the batch where the file leaves them to the plan; else they must at least hold one.
            slots = max(branch.frame_slots, -(-size // plan.decode_workers)) if _fixed_slots(plan) else None
            found.append({f"{at}.batch.max_size": size, **({} if slots is None else {"decode.slots": slots})})
    return found


def _fixed_slots(plan: Plan) -> bool:
    return isinstance(plan.config.decode.slots, int)


def _requests(index: int, plan: Plan) -> list[Settings]:
    branch, at = plan.branches[index], f"branches.{index}"
    streams = branch.infer.streams
    counts = sorted({streams, streams + 1, 2 * streams, 3 * streams} - {branch.infer.requests})
    return [{f"{at}.infer.requests": count} for count in counts]


def _wait(index: int, plan: Plan) -> list[Settings]:
    branch, at = plan.branches[index], f"branches.{index}"
    if branch.batch_size == 1:
        return []
    return [{f"{at}.batch.max_wait_ms": wait} for wait in (2.0, 5.0, 20.0, 100.0) if wait != branch.max_wait_ms]


def _precision(index: int, plan: Plan) -> list[Settings]:
    branch, at = plan.branches[index], f"branches.{index}"
    return [{f"{at}.infer.precision": each} for each in ("bf16", "f16") if each != branch.infer.precision]


def _slots(plan: Plan) -> list[Settings]:
    """Slots of the frame rings: fewer stay in the cache, more even out what decoding takes."""
    size = max(branch.batch_size for branch in plan.branches)
    now, together = plan.branches[0].frame_slots, min(branch.frame_layout.capacity for branch in plan.branches)
    frames = -(-size // plan.decode_workers), size + 2, 4 * size + 2
    counts = sorted({max(2, -(-count // together)) for count in frames} - {now})
    return [{"decode.slots": count} for count in counts]

"""What decode, view and inference cost by themselves, with all cores busy: the ceiling of any arrangement of them.

`python -m vpipe.bench.cost JSON` is one of the processes that share the cores while a part is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from vpipe.child import import_path
from vpipe.engine import Setup, engine_cost
from vpipe.pipeline import Pipeline
from vpipe.plan import BranchPlan, Plan
from vpipe.viewconfig import ViewConfig


def isolated_cost(pipeline: Pipeline, clip: str) -> dict[str, float]:
    """Return CPU milliseconds a taken frame of `decode`, `view` and `infer`, each with all cores busy."""
    plan = pipeline.plan()
    parts = {"decode": 0.0, "view": 0.0, "infer": 0.0}
    for branch in plan.branches:
        job = {
            "clip": clip,
            "sample": branch.sample,
            "max_pixels": plan.config.decode.max_pixels,
            "skip_loop_filter": plan.config.decode.skip_loop_filter,
            "view": branch.view.to_dict(),
        }
        spent = _on_all_cores(plan, job)
        parts["decode"] = spent["decode_ms"]
        parts["view"] += spent["view_ms"]
        if branch.manifest is not None:
            parts["infer"] += _infer(branch, plan)
    return parts


def _infer(branch: BranchPlan, plan: Plan) -> float:
    assert branch.manifest is not None
    streams = branch.infer.streams
    setup = Setup(branch.batch_size, streams, branch.infer.threads, requests=2 * streams)
    return engine_cost(branch.manifest, setup).cpu_ms


def _on_all_cores(plan: Plan, job: dict[str, Any]) -> dict[str, float]:
    """Decode and view once a core, all at once; returns the means of what they print."""
    command = [sys.executable, "-m", "vpipe.bench.cost", json.dumps(job)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": import_path()})
        for _ in range(plan.host.cores)
    ]
    found = [json.loads(process.communicate()[0]) for process in running]
    return {name: sum(each[name] for each in found) / len(found) for name in found[0]}


def measure_decode_and_view(job: dict[str, Any]) -> dict[str, float]:
    """Decode a clip as one worker does, first without its view and then with it; CPU milliseconds a taken frame."""
    from vpipe.media import Sample, open_media
    from vpipe.view import make_view, view_fields

    config = ViewConfig.from_dict(job["view"])
    sample = Sample.parse(job["sample"])
    view = make_view(config)
    items = {field.name: np.zeros(field.shape, field.dtype) for field in view_fields(config)}
    frames, view_ns = 0, 0
    began = time.thread_time_ns()
    media = open_media(job["clip"], job["max_pixels"], job["skip_loop_filter"])
    opened_ns = time.thread_time_ns() - began
    _, segments = media.plan(sample, pair=config.pair)
    began = time.thread_time_ns() - opened_ns  # any program must open the file; to index it is vpipe's own idea
    for segment in segments:
        for picture in media.read(segment, sample, pair=config.pair):
            start = time.thread_time_ns()
            view.render(picture, items)
            view_ns += time.thread_time_ns() - start
            frames += 1
    total_ns = time.thread_time_ns() - began
    media.close()
    return {"decode_ms": (total_ns - view_ns) / frames * 1e-6, "view_ms": view_ns / frames * 1e-6}


if __name__ == "__main__":
    print(json.dumps(measure_decode_and_view(json.loads(sys.argv[1]))))

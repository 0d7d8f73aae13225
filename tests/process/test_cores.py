"""Where decode workers run, as the system tells it."""

import contextlib
import os
from pathlib import Path

import psutil
import pytest

from tests.engine import command, short_clip, started, until, workers_of, write_pipeline


def test_decode_workers_keep_a_core_each_and_nobody_else_does(tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this machine has one core")
    pipeline = write_pipeline(tmp_path / "small.toml")  # two decode workers
    clip = short_clip("long", 60.0)
    os.sched_setaffinity(0, cores[:2])
    try:
        with started(command(pipeline, [clip], tmp_path / "out")) as process:
            until(lambda: len(workers_of(process.pid)) == 5, "all workers")
            workers = workers_of(process.pid)

            def kept() -> list[list[int]]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    return [workers[f"decode[{number}]"].cpu_affinity() for number in range(2)]
                return []

            until(lambda: kept() == [cores[:1], cores[1:2]], "a core for each decode worker")
            others = [worker for name, worker in workers.items() if not name.startswith("decode")]
            assert all(sorted(worker.cpu_affinity()) == cores[:2] for worker in others)
            assert process.wait(120) == 0
    finally:
        os.sched_setaffinity(0, cores)

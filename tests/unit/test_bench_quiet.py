"""Measurements know how busy the machine was with others, and whether it became slower meanwhile."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from vpipe.bench import compare, quiet
from vpipe.bench.commands import NULL
from vpipe.bench.measure import Measured
from vpipe.bench.quiet import Watch
from vpipe.pipeline import Pipeline

BURN_S = 0.6
BURN = "import time\nuntil = time.process_time() + {}\nwhile time.process_time() < until: pass"


def test_own_work_and_that_of_ended_children_are_not_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own = quiet._own_s
    monkeypatch.setattr(quiet, "_busy_s", own)  # a machine with nobody else on it
    before = own()
    with Watch() as watch:
        subprocess.run([sys.executable, "-c", BURN.format(BURN_S)], check=True)
    assert own() - before >= BURN_S
    assert watch.others < 0.01


def test_a_process_that_is_still_running_counts_as_another() -> None:
    with Watch() as watch:
        process = subprocess.Popen([sys.executable, "-c", BURN.format(600)])
        deadline = time.monotonic() + 60
        while _cpu_s(process.pid) < BURN_S and time.monotonic() < deadline:
            time.sleep(0.02)
    process.kill()
    process.wait()
    assert watch.others > 0


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_system_that_tells_nothing_makes_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "_STAT", Path("/nowhere"))
    with Watch() as watch:
        time.sleep(0.01)
    assert watch.others == 0.0


def test_rounds_in_which_the_machine_changed_its_speed_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter((1.0, 1.0, 2.0, 2.0, 1.01, 1.0, 1.0))
    fps = iter((100.0, 60.0, 50.0, 70.0, 99.0, 101.0))
    monkeypatch.setattr(compare, "isolated_cost", lambda *_: {"decode": 8 * next(speeds), "view": 1.0, "infer": 2.0})
    monkeypatch.setattr(compare, "measure_run", lambda *_, **__: Measured(100, 100 / next(fps), 9.0, 1.0, 0))
    monkeypatch.setattr(quiet, "_busy_s", lambda: 0.0)
    rounds = compare._measure(Pipeline.load(NULL), "", "every", {}, 3)
    assert [each.run.fps for each in rounds] == [100, 60, 50, 70, 99]
    assert [each.drift <= quiet.CALM for each in rounds] == [True, False, True, False, True]


def test_a_run_is_compared_with_its_baseline_before_it_and_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "isolated_cost", lambda *_: {"decode": 8.0, "view": 1.0, "infer": 2.0})
    monkeypatch.setattr(compare, "measure_run", lambda *_, **__: Measured(100, 1.0, 1.5, 1.0, 0))
    theirs = iter((Measured(100, 1.6, 3.0, 1.0, 0), Measured(100, 2.0, 3.0, 1.0, 0)))
    monkeypatch.setattr(compare, "measure_script", lambda *_: next(theirs))
    monkeypatch.setattr(quiet, "_busy_s", lambda: 0.0)
    (only,) = compare._measure(Pipeline.load(NULL), "", "every", {"naive": "a.module"}, 1)
    assert only.speedup_over("naive") == pytest.approx(1.8)
    assert only.startup_s_over("naive") == pytest.approx(0.5 - 1.2)

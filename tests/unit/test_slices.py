import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vpipe.errors import RunError
from vpipe.models.slices import SLICE_S, Program, in_slices

TICKS = """
import time
print("it begins", flush=True)
ended, last, longest, ticks = time.monotonic() + 2.0, time.monotonic(), 0.0, 0
while time.monotonic() < ended:
    longest, last, ticks = max(longest, time.monotonic() - last), time.monotonic(), ticks + 1
print(ticks, longest)
"""
"""Counts how often it gets round in two seconds, and the longest pause in between."""


ENDLESS = TICKS.replace("time.monotonic() + 2.0", "float('inf')").replace(
    "import time\n",
    "import signal, time\ndef end(*_):\n    global ended\n    ended = 0.0\nsignal.signal(signal.SIGTERM, end)\n",
)


def test_two_programs_take_turns_and_the_time_they_stand_still_is_known() -> None:
    with (
        Program([sys.executable, "-c", ENDLESS], "it begins") as program,
        Program([sys.executable, "-c", TICKS], "it begins") as other,
    ):
        in_slices(program, other)
        told = [each.result() for each in (program, other)]
    for words, stopped_s in told:
        ticks, longest = words.split()
        assert int(ticks) > 0
        assert float(longest) > SLICE_S * 0.9  # it stood still for a slice of the other one
        assert 0.5 < stopped_s < 2.0


def test_program_that_should_have_gone_on_is_told() -> None:
    short = TICKS.replace("2.0", "0.1")
    with (
        Program([sys.executable, "-c", short], "it begins") as program,
        Program([sys.executable, "-c", TICKS], "it begins") as other,
        pytest.raises(RunError, match="ended by itself"),
    ):
        in_slices(program, other)


def test_program_stands_still_until_its_first_slice() -> None:
    with Program([sys.executable, "-c", TICKS], "it begins") as program:
        (child,) = psutil.Process().children()
        assert child.status() == psutil.STATUS_STOPPED
        assert not program.run(0.05)
        assert child.status() == psutil.STATUS_STOPPED
    assert not child.is_running()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('too bad'); raise SystemExit(3)", "failed with exit code 3: too bad"),
        ("pass", "failed with exit code 0: no output"),
    ],
)
def test_program_that_ends_before_it_begins_is_told(code: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        Program([sys.executable, "-c", code], "it begins")


def test_program_that_fails_while_it_is_measured_is_told() -> None:
    code = "print('it begins', flush=True); import time; time.sleep(0.2); raise SystemExit('no more')"
    with Program([sys.executable, "-c", code], "it begins") as program:
        assert program.run(None)
        with pytest.raises(RunError, match="failed with exit code 1: no more"):
            program.result()


def test_program_that_stands_still_does_not_outlive_its_parent(tmp_path: Path) -> None:
    code = f"""
import sys, time
from vpipe.models.slices import Program
Program([sys.executable, "-c", {TICKS!r}], "it begins")
print("up", flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)

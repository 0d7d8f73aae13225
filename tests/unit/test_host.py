"""A worker thread keeps its own core where every worker has one."""

import os
import threading
from collections.abc import Callable

import pytest

from vpipe.host import OwnCore

CORES = sorted(os.sched_getaffinity(0))


def in_thread(work: Callable[[], None]) -> set[int]:
    """Return on which cores a thread may run after `work`; those of this one stay as they are."""
    found: list[set[int]] = []
    thread = threading.Thread(target=lambda: (work(), found.append(os.sched_getaffinity(0))))
    thread.start()
    thread.join()
    assert sorted(os.sched_getaffinity(0)) == CORES
    return found[0]


@pytest.mark.parametrize("number", range(len(CORES)))
def test_each_of_as_many_workers_as_cores_has_its_own(number: int) -> None:
    assert in_thread(lambda: OwnCore(number, len(CORES)).stay(alone=True)) == {CORES[number]}


def test_what_is_done_by_several_threads_goes_anywhere_again() -> None:
    def work() -> None:
        core = OwnCore(0, len(CORES))
        core.stay(alone=True)
        core.stay(alone=False)

    assert in_thread(work) == set(CORES)


@pytest.mark.parametrize("workers", [len(CORES) - 1, len(CORES) + 1])
def test_other_numbers_of_workers_go_anywhere(workers: int) -> None:
    assert in_thread(lambda: OwnCore(0, workers).stay(alone=True)) == set(CORES)


def test_cores_that_were_taken_away_meanwhile_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    core = OwnCore(0, len(CORES))
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    core.stay(alone=True)

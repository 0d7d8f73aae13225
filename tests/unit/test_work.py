"""The work list: what is handed out, in which order, to how many threads, and what happens to what is lost."""

from __future__ import annotations

from typing import Any

import pytest

from vpipe.frame import StreamInfo
from vpipe.supervisor.process import RestartBudget
from vpipe.supervisor.work import FileState, Job, SegmentState, WorkList


def info(number: int, segments: int) -> StreamInfo:
    return StreamInfo(
        number, f"{number}", "k", 1, "mp4", "h264", "yuv420p", 64, 64, 0, 1.0, 25.0, (1, 25), 0, 25, segments
    )


def work_list(sizes: list[int], workers: int = 2, tries: int = 3) -> WorkList:
    return WorkList([(f"file-{number}", size) for number, size in enumerate(sizes)], workers, tries)


def planned(work: WorkList, number: int, frames: list[int], committed: tuple[int, ...] = ()) -> None:
    file = work.files[number]
    work.identified(file, f"key-{number}")
    segments: list[dict[str, Any]] = [{"number": at, "frames": count} for at, count in enumerate(frames)]
    work.planned(file, info(number, len(frames)), segments, set(committed))


def take(work: WorkList, active: int = 0) -> Job:
    job = work.next_job(active)
    assert job is not None
    return job


def opened(work: WorkList) -> list[int]:
    """Take all `identify` jobs away."""
    found = []
    for _ in work.files:
        job = take(work)
        assert job.op == "identify"
        found.append(job.file.number)
    return found


def test_the_largest_file_is_opened_first_and_each_once() -> None:
    work = work_list([10, 30, 20])
    assert opened(work) == [1, 2, 0]
    assert work.next_job(0) is None


def test_what_is_open_goes_before_what_is_not_and_the_longest_segment_first() -> None:
    work = work_list([10, 20])
    assert take(work).file.number == 1
    planned(work, 1, [50, 200, 100])
    jobs = [take(work) for _ in range(4)]
    assert [(job.op, job.segment.number if job.segment else None) for job in jobs] == [
        ("decode", 1),
        ("decode", 2),
        ("decode", 0),
        ("identify", None),
    ]
    assert len({job.number for job in jobs}) == 4


def test_committed_segments_are_not_handed_out() -> None:
    work = work_list([1])
    opened(work)
    planned(work, 0, [10, 20, 30], committed=(0, 2))
    assert take(work).segment is work.files[0].segments[1]
    assert work.next_job(0) is None
    assert [segment.number for segment in work.files[0].uncommitted] == [1]


@pytest.mark.parametrize(
    ("workers", "frames", "active", "threads"),
    [
        (4, [100], 0, 4),  # alone: all cores
        (4, [100, 100], 0, 2),
        (4, [100, 100, 100, 100], 0, 1),
        (4, [100], 300, 1),  # the others are busy
        (2, [300, 100], 0, 2),  # half as much again as its share
        (2, [86], 60, 1),  # the other is soon done, but then there are frames to infer
        (2, [100, 100], 0, 1),
        (1, [100], 0, 1),
    ],
)
def test_a_segment_gets_more_threads_only_where_cores_would_idle(
    workers: int, frames: list[int], active: int, threads: int
) -> None:
    work = work_list([1], workers)
    opened(work)
    planned(work, 0, frames)
    assert take(work, active).threads == threads


def test_segments_get_one_thread_while_files_wait() -> None:
    work = work_list([1, 2], workers=4)
    take(work)
    planned(work, 1, [100])
    assert take(work).threads == 1


def test_a_lost_segment_is_tried_again_until_its_tries_are_over() -> None:
    work = work_list([1], tries=2)
    opened(work)
    planned(work, 0, [10])
    assert work.lost(take(work), "it died") is None
    job = take(work)
    assert job.segment is not None
    assert job.segment.attempts == 2
    assert work.lost(job, "it hung") == "segment 0 was tried 2 times; the last time it hung"


def test_a_lost_opening_is_tried_again_until_its_tries_are_over() -> None:
    work = work_list([1], tries=2)
    assert work.lost(take(work), "it died") is None
    job = take(work)
    assert job.op == "identify"
    work.identified(job.file, "key")
    work.to_plan(job.file)
    job = take(work)
    assert job.op == "plan"
    assert work.lost(job, "it died") == "opening it was tried 2 times; the last time it died"


def test_a_job_lost_after_its_file_ended_is_nobodys() -> None:
    work = work_list([1], tries=1)
    opened(work)
    planned(work, 0, [10, 20])
    job = take(work)
    work.end(work.files[0], FileState.FAILED)
    assert work.lost(job, "it died") is None
    assert work.next_job(0) is None
    assert work.finished


def test_files_of_the_same_content_wait_for_the_first_and_end_with_it() -> None:
    work = work_list([3, 2, 1])
    opened(work)
    first, *others = work.files
    assert work.identified(first, "same") is None
    for other in others:
        assert work.identified(other, "same") is first
        assert other.state is FileState.WAITING
        assert other.source is first
    first.error = ("kind", "message")
    assert work.end(first, FileState.FAILED) == [first, *others]
    assert work.finished
    assert {file.error for file in work.files} == {("kind", "message")}
    assert work.end(first, FileState.FAILED) == []


def test_what_was_decoded_but_not_committed_is_repeated_and_costs_no_try() -> None:
    work = work_list([1], tries=1)
    opened(work)
    planned(work, 0, [30, 20, 10])
    file = work.files[0]
    done, running = take(work), take(work)
    assert done.segment is not None
    assert running.segment is not None
    work.decoded(file, done.segment)
    work.repeat_uncommitted()
    assert done.segment.state is SegmentState.QUEUED
    assert running.segment.again
    again = take(work)
    assert again.segment is done.segment
    assert again.segment.attempts == 1
    work.decoded(file, running.segment)  # its present attempt ends, and it is queued once more
    assert running.segment.state is SegmentState.QUEUED
    assert not running.segment.again
    assert take(work).segment is running.segment


def test_a_segment_committed_meanwhile_is_not_repeated() -> None:
    work = work_list([1])
    opened(work)
    planned(work, 0, [30])
    file, job = work.files[0], take(work)
    assert job.segment is not None
    work.decoded(file, job.segment)
    work.repeat_uncommitted()
    work.committed(file, 0)
    assert work.next_job(0) is None
    assert not file.uncommitted


def test_ended_files_let_go_of_their_packet_tables() -> None:
    work = work_list([1])
    opened(work)
    planned(work, 0, [30])
    work.end(work.files[0], FileState.DONE)
    assert work.files[0].segments[0].data == {}
    assert work.files[0].segments[0].frames == 30


def test_a_restart_budget_is_for_each_worker_and_ends() -> None:
    budget = RestartBudget(2, window_s=1e6)
    assert [budget.spend("a") for _ in range(3)] == [True, True, False]
    assert budget.spend("b")
    forgetful = RestartBudget(0, window_s=-1)
    assert not forgetful.spend("a")

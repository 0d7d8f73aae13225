import decimal
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from vpipe.errors import ResourceError, UsageError
from vpipe.trace import Recorder, Span, TracePage
from vpipe.trace.commands import trace
from vpipe.trace.events import Events
from vpipe.trace.page import CAPACITY, HEADER_BYTES, HELD_NS, PAGE_BYTES, RECORDS, records
from vpipe.trace.picture import draw
from vpipe.trace.rows import rows
from vpipe.trace.solo import trace_alone
from vpipe.trace.timeline import Counter, Lane, load
from vpipe.trace.tracer import Tracer

MS = 1_000_000
Record = tuple[int, int, int, int]
"""span, count, value, end_ns."""


@pytest.fixture
def page() -> Iterator[TracePage]:
    page = TracePage("test")
    yield page
    page.close()


def note(recorder: Recorder, span: Span, count: int = 0, value: int = 0) -> None:
    """Note a span and put it on the page at once."""
    recorder.note((span, count, value, time.monotonic_ns()))
    recorder.flush(time.monotonic_ns())


def drained(page: TracePage) -> list[Record]:
    found: list[Record] = records(page.drain(ended=True)).tolist()
    return found


# ---- the page


def test_page_has_what_was_noted_in_order_from_the_start_of_the_process() -> None:
    recorder = Recorder(memory := bytearray(PAGE_BYTES), 1000)
    recorder.note((Span.START, 0, 0, 1500))
    recorder.note((Span.DECODE, 3, -40, 2500))
    recorder.note((Span.WAIT_SLOT, 0, 2550, 2600))
    recorder.close()
    assert int.from_bytes(memory[:8], "little") == 4
    page = TracePage("test")
    page._memory[:] = memory
    assert drained(page) == [
        (Span.PROCESS, 0, os.getpid(), 1000),
        (Span.START, 0, 0, 1500),
        (Span.DECODE, 3, -40, 2500),
        (Span.WAIT_SLOT, 0, 2550, 2600),
    ]
    page.close()


def test_mark_is_of_now(page: TracePage) -> None:
    before = time.monotonic_ns()
    recorder = page.recorder()
    recorder.mark(Span.WORK)
    recorder.close()
    (_, record) = drained(page)
    assert before <= record[3] <= time.monotonic_ns()


def test_record_is_drained_at_the_second_look_and_only_once(page: TracePage) -> None:
    recorder = page.recorder()
    assert page.drain() == b""
    assert records(page.drain())["span"].tolist() == [Span.PROCESS]
    note(recorder, Span.WORK)
    assert page.drain() == b""
    assert records(page.drain())["span"].tolist() == [Span.WORK]
    assert page.drain() == b""
    assert drained(page) == []


def test_records_stay_in_order_past_the_end_of_the_page(page: TracePage) -> None:
    recorder = page.recorder()
    drained(page)
    for number in range(5):
        for at in range(CAPACITY // 2 + 1):
            recorder.note((Span.WORK, number, at, at))
        recorder.flush(0)
        assert [record[1:3] for record in drained(page)] == [(number, at) for at in range(CAPACITY // 2 + 1)]
    assert page.lost == 0


def test_records_are_held_for_a_while_at_most(page: TracePage) -> None:
    recorder = page.recorder()
    drained(page)
    later = time.monotonic_ns() + 3600 * 1000 * MS
    recorder.flush(later)
    assert recorder.due_ns == later + HELD_NS
    recorder.mark(Span.WORK, 0, 2)
    recorder.mark(Span.WORK, 0, 3)
    assert drained(page) == []
    recorder.due_ns = now = time.monotonic_ns() - 1
    recorder.mark(Span.WORK, 0, 4)
    assert recorder.due_ns > now + HELD_NS
    assert [record[2] for record in drained(page)] == [2, 3, 4]
    recorder.note((Span.WORK, 0, 5, 0))
    assert drained(page) == []
    recorder.close()
    assert [record[2] for record in drained(page)] == [5]


def test_full_page_costs_records_and_counts_them(page: TracePage) -> None:
    recorder = page.recorder()
    for at in range(CAPACITY - 1):
        recorder.note((Span.WORK, 0, at, 1000 + at))
    recorder.flush(0)
    for number in range(3):
        recorder.note((Span.VIEW, 0, 0, CAPACITY * 1000 + number))
        recorder.flush(0)
    assert page.lost == 3
    assert len(drained(page)) == CAPACITY
    recorder.note((Span.DECODE, 0, 0, CAPACITY * 2000))
    recorder.flush(0)
    # What comes next does not stretch over the time of what was lost.
    assert [(record[0], record[3]) for record in drained(page)] == [
        (Span.LOST, CAPACITY * 1000 + 2),
        (Span.DECODE, CAPACITY * 2000),
    ]
    assert page.lost == 3


def test_worker_started_again_goes_on_where_its_predecessor_stopped(page: TracePage) -> None:
    note(page.recorder(), Span.WORK)
    note(page.recorder(), Span.VIEW)
    assert [record[0] for record in drained(page)] == [Span.PROCESS, Span.WORK, Span.PROCESS, Span.VIEW]


@pytest.mark.parametrize("written", [CAPACITY + 1, 1 << 63])
def test_page_whose_header_makes_no_sense_is_skipped(page: TracePage, written: int) -> None:
    recorder = page.recorder()
    page._memory[:8] = written.to_bytes(8, "little")
    assert drained(page) == []
    assert drained(page) == []
    page._memory[:8] = (0).to_bytes(8, "little")
    note(recorder, Span.WORK)
    assert isinstance(drained(page), list)


def test_page_knows_the_process_that_writes_it(page: TracePage) -> None:
    assert page.process == (0, 0)
    before = time.monotonic_ns()
    page.recorder()
    assert page.process[0] == os.getpid()
    assert before <= page.process[1] <= time.monotonic_ns()


def test_record_of_an_unknown_kind_is_left_out(page: TracePage) -> None:
    recorder = page.recorder()
    note(recorder, Span.WORK)
    page._memory[HEADER_BYTES : HEADER_BYTES + 8] = (999).to_bytes(8, "little")
    assert [record[0] for record in drained(page)] == [Span.WORK]


# ---- the events


def events_of(noted: list[Record]) -> list[dict[str, Any]]:
    text = b"".join(Events("infer.a", 4, 0).text(np.array(noted, RECORDS)))
    found: list[dict[str, Any]] = json.loads(b"[" + text.removeprefix(b",") + b"]")
    return found


def test_spans_become_slices_of_their_process_in_microseconds() -> None:
    begin, *_, slice_ = events_of([(Span.PROCESS, 0, 77, 5 * MS), (Span.DECODE, 1, -90, 5 * MS + 2500)])
    assert (begin["ph"], begin["pid"], begin["args"]) == ("M", 77, {"name": "infer.a"})
    assert slice_ == {
        "ph": "X", "name": "decode", "cat": "work", "pid": 77, "tid": 0, "ts": 5000.0, "dur": 2.5,
        "args": {"stream": 1, "pts": -90},
    }  # fmt: skip


def test_spans_lie_end_to_end_whatever_pieces_they_come_in() -> None:
    noted = [(Span.PROCESS, 0, 7, 1000)] + [(Span.WORK, 0, 0, 1000 + at * at * 1000) for at in range(9)]
    events = Events("infer.a", 4, 0)
    pieces = [noted[:3], noted[3:4], [(Span.INFER, 1, 2000, 9000)], noted[4:]]
    text = b"".join(b"".join(events.text(np.array(piece, RECORDS))) for piece in pieces)
    found = [event for event in json.loads(b"[" + text.removeprefix(b",") + b"]") if event.get("name") == "work"]
    ends = [event["ts"] + event["dur"] for event in found]
    assert [event["ts"] for event in found] == [1.0, *ends[:-1]]


def test_wait_tells_of_the_work_before_it_and_a_turn_of_both_its_halves() -> None:
    noted: list[Record] = [
        (Span.PROCESS, 0, 7, 1000),
        (Span.WAIT_SLOT, 0, 1200, 1500),
        (Span.WAIT_FRAME, 0, 1500, 1600),
        (Span.TURN, 4, 600, 2500),
        (Span.TURN, 2, 0, 2550),  # a wait came in between
        (Span.TURN, 3, 80, 2600),
    ]
    found = [event for event in events_of(noted) if event["ph"] == "X"]
    slices = [(each["ts"] * 1e3, each["name"], each["dur"] * 1e3, each["args"]) for each in found]
    assert sorted(slices, key=lambda each: each[:2]) == [
        (1000, "work", 200, {}),
        (1200, "wait: ring full", 300, {}),
        (1500, "wait: ring empty", 100, {}),
        (1600, "decode", 600, {"frames": 4}),
        (2200, "view", 300, {"frames": 4}),
        (2500, "decode", 0, {"frames": 2}),
        (2500, "view", 50, {"frames": 2}),
        (2550, "decode", 50, {"frames": 3}),
        (2600, "view", 0, {"frames": 3}),
    ]


def test_records_that_make_no_sense_or_stand_for_lost_ones_are_not_shown() -> None:
    far = 2**63 - 1
    noted = [(Span.PROCESS, 0, 7, 1000), (Span.WORK, 0, 0, 5), (Span.LOST, 0, 0, 3000), (Span.WORK, 0, 0, 4000)]
    noted += [(Span.INFER, 1, far, -far), (Span.WAIT, far, 0, 5000), (Span.TURN, far, far, 6000)]
    found = [event for event in events_of(noted) if event["ph"] == "X"]
    assert [(event["name"], event["ts"]) for event in found if event["name"] == "work"] == [("work", 3.0)]
    assert all(0 <= event["dur"] <= 2.0 for event in found if event["name"] != "infer")


def test_batches_that_overlap_lie_on_threads_of_their_own_and_a_free_one_is_used_again() -> None:
    flights = [(0, 10), (2, 8), (8, 12), (9, 20), (10, 11)]
    noted = [(Span.PROCESS, 0, 7, 0)] + [(Span.INFER, 16, a * MS, b * MS) for a, b in flights]
    found = events_of(noted)
    assert [event["tid"] for event in found if event["ph"] == "X"] == [1, 2, 2, 3, 1]
    names = {event["tid"]: event["args"]["name"] for event in found if event.get("name") == "thread_name"}
    assert names == {0: "infer.a", 1: "batch 1", 2: "batch 2", 3: "batch 3"}


@pytest.mark.parametrize("span", [span for span in Span if span not in (Span.PROCESS, Span.LOST)])
def test_every_span_has_words_and_waits_are_called_so(span: Span) -> None:
    assert span.label
    assert span.label.startswith("wait") == span.waits


def test_process_that_takes_a_worker_s_place_gets_tracks_of_its_own() -> None:
    found = events_of(
        [
            (Span.PROCESS, 0, 7, 0),
            (Span.WORK, 0, 0, 2),
            (Span.INFER, 1, 2, 11),
            (Span.PROCESS, 0, 8, 5),
            (Span.WORK, 0, 0, 7),
            (Span.INFER, 1, 7, 8),
        ]
    )
    slices = [(event["pid"], event["tid"], event["name"]) for event in found if event["ph"] == "X"]
    assert sorted(slices) == [(7, 0, "work"), (7, 1, "infer"), (8, 0, "work"), (8, 1, "infer")]


@given(st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 2), min_size=1))
def test_rows_are_the_numbers_that_went_in(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    text = bytes(rows(',{"a":%d,"b":[%t]}', [first, second])).decode()
    found = json.loads(f"[{text[1:]}]", parse_float=decimal.Decimal)
    assert [(each["a"], each["b"][0] * 1000) for each in found] == pairs
    assert len({len(line) for line in text.split(",{")[1:]}) == 1


# ---- the file


def write_trace(path: Path, seconds: float = 1.0, **facts: Any) -> Path:
    """A worker that decodes and waits in turns of 10 ms, and one whose batches overlap; made in no time."""
    tracer = Tracer(path, {"pipeline": "made", "cores": 2, "cpu": "a <CPU> & more", "plan": ["the plan"], **facts})
    start = tracer._origin_ns
    decode, infer = (tracer.page(name) for name in ("decode[0]", "infer.a"))
    recorders = [Recorder(each._memory, start) for each in (decode, infer)]
    for number, each in enumerate((decode, infer)):  # as if it had been written by processes of their own
        each._memory[HEADER_BYTES + 16 : HEADER_BYTES + 24] = (1_000_000_000 + number).to_bytes(8, "little")
    for at in range(int(seconds * 100)):
        spans = (Span.DECODE, Span.WAIT_SLOT), (Span.WAIT_MODEL, Span.WORK)
        for recorder, span in zip(recorders, spans[0:2], strict=True):
            value = start + at * 10 * MS if span[at % 2].waits else at
            recorder.note((span[at % 2], 0, value, start + (at + 1) * 10 * MS))
        recorders[1].note((Span.INFER, 16, start + at * 10 * MS, start + (at * 10 + 15) * MS))
    for recorder in recorders:
        recorder.close()
    tracer.close()
    return path


def test_trace_is_read_as_it_was_noted(tmp_path: Path) -> None:
    timeline = load(write_trace(tmp_path / "t.json"))
    names = [worker.name for worker in timeline.workers]
    assert names == ["supervisor", "decode[0]", "infer.a"]
    decode, infer = timeline.workers[1:]
    assert set(decode.own.labels) == {"decode", "wait: ring full"}
    assert float(np.sum(decode.own.ends - decode.own.starts)) == pytest.approx(1.0)
    assert [lane.name for lane in infer.batches] == ["batch 1", "batch 2"]
    assert timeline.end_s == pytest.approx(1.005)
    assert timeline.facts["lost_records"] == 0
    assert decode.own.arguments[0] == {"stream": 0, "pts": 0}


def test_trace_is_absent_until_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with trace_alone(path, "alone") as recorder:
        recorder.mark(Span.SETUP)
        assert not path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.json"]
    (worker,) = load(path).workers
    assert worker.name == "alone"
    assert worker.own.labels == ("setup",)


def test_tracer_notes_cores_and_ring_fill_while_it_runs(tmp_path: Path) -> None:
    memory = TracePage("ring")  # 64 KiB and more of memory, zeros: two slots that are free
    tracer = Tracer(tmp_path / "t.json", {"pipeline": "made"})
    tracer.ring("frames", memory.fd, 2, 4096)
    tracer.start()
    memory._memory[4096] = 1
    until_written = time.monotonic() + 60
    while tracer._shown.get("frames") != 1:
        assert time.monotonic() < until_written
        time.sleep(0.001)
    memory._memory[4096] = 0
    tracer.close()
    tracer.close()  # twice is once
    memory.close()
    timeline = load(tmp_path / "t.json")
    assert 1 in timeline.rings["frames"].values
    (own,) = timeline.workers
    assert (own.cores.values >= 0).all()
    assert own.cores.values.max() > 0


def test_page_of_a_worker_is_kept_over_its_restarts(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / "t.json", {"pipeline": "made"})
    assert tracer.page("decode[0]") is tracer.page("decode[0]")
    tracer.close()


def test_trace_that_cannot_be_written_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"--trace: .*nowhere/t.json cannot be written: No such file"):
        Tracer(tmp_path / "nowhere" / "t.json", {})


def test_disk_that_fills_up_is_told_at_the_end_and_leaves_no_file(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path / "t.json", {"pipeline": "made"})
    recorder = tracer.page("decode[0]").recorder()
    full = open("/dev/full", "wb")  # noqa: SIM115 - the tracer closes it
    tracer._file.close()
    tracer._file = full
    for at in range(2000):
        recorder.mark(Span.WORK, 0, at)
    recorder.close()
    with pytest.raises(ResourceError, match="could not be written: No space left on device; the run is complete"):
        tracer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"traceEvents": [{}], "otherData": {}}', '{"traceEvents": 1}'])
def test_file_that_is_no_trace_is_a_usage_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a trace of vpipe"):
        load(path)


def test_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(tmp_path / "none.json")


# ---- what is drawn from it


def test_shares_of_a_lane_are_those_of_its_spans() -> None:
    lane = Lane("x", np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 4.0]), ("decode", "wait", "decode"), ({}, {}, {}))
    edges = np.array([0.0, 2.0, 4.0, 6.0])
    np.testing.assert_allclose(lane.share("decode", edges), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(lane.share("wait", edges), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(lane.share("view", edges), [0.0, 0.0, 0.0])


def test_mean_of_a_counter_weighs_its_values_by_their_time() -> None:
    counter = Counter(np.array([0.0, 1.0, 4.0]), np.array([2.0, 0.0, 9.0]))
    np.testing.assert_allclose(counter.mean(np.array([0.0, 2.0, 4.0, 8.0])), [1.0, 0.0, 0.0])
    np.testing.assert_allclose(Counter(np.empty(0), np.empty(0)).mean(np.array([0.0, 1.0])), [0.0])


def test_picture_names_every_worker_and_every_label(tmp_path: Path) -> None:
    timeline = load(write_trace(tmp_path / "t.json"))
    svg = draw([("made", timeline)], (0.0, 1.0), (0.4, 0.1))
    for words in ("decode[0]", "infer.a", "batch 2", "wait: ring full", "cores in use", "busy 50%", "0.44 s"):
        assert f">{words}<" in svg
    assert "<title>decode: 10.000 ms, stream 0, pts 40</title>" in svg


def command(*arguments: object) -> Result:
    return CliRunner().invoke(trace, [str(argument) for argument in arguments], standalone_mode=False)


def test_command_draws_a_page_with_what_it_was_before(tmp_path: Path) -> None:
    after, before = write_trace(tmp_path / "a.json"), write_trace(tmp_path / "b.json", 2.0, pipeline="naive")
    page = tmp_path / "t.html"
    assert command(after, "--against", before, "-o", page).exception is None
    text = page.read_text()
    svg = text[text.index("<svg") :]
    assert svg.index(">naive: 2.0") < svg.index(">made: 1.0") < svg.index("the plan")
    assert "a &lt;CPU&gt; &amp; more" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_command_draws_the_part_that_is_asked_for(tmp_path: Path) -> None:
    file, picture = write_trace(tmp_path / "t.json"), tmp_path / "t.svg"
    options = ["--from", 0.2, "--to", 0.6, "--zoom", 0.3, "--zoom-length", 0.05]
    assert command(file, "-o", picture, *options).exception is None
    svg = picture.read_text()
    assert svg.startswith("<svg")
    assert "50 ms, enlarged" in svg
    assert ">0.20 s<" in svg
    assert ">0.70 s<" not in svg
    assert command(file, "-o", picture, "--zoom-length", 0).exception is None
    assert "enlarged" not in picture.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "t.png"], r"ends neither in \.html nor in \.svg"),
        (["-o", "t.svg", "--from", "3"], "shows nothing; the trace is 1.005 s long"),
        (["-o", "nowhere/t.svg"], "cannot be written: No such file"),
    ],
)
def test_wrong_use_of_the_command_is_told(tmp_path: Path, options: list[str], message: str) -> None:
    found = command(write_trace(tmp_path / "t.json"), options[0], tmp_path / options[1], *options[2:])
    with pytest.raises(UsageError, match=message):
        raise found.exception or AssertionError

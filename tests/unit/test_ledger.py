"""The ledger: commits are whole or absent, repeats are harmless, and the run's lock dies with its holder."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpipe.database import DATABASE, FORMAT
from vpipe.errors import ResourceError, RunError, VpipeError
from vpipe.ledger import Ledger, row_key, work_key
from vpipe.lock import LOCK
from vpipe.task import Columns

WORK = work_key("content", {"model": "digest"})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "out") as opened:
        yield opened


def columns(start: int, count: int) -> Columns:
    pts = np.arange(start, start + count)
    return {"pts": pts, "score": pts.astype(np.float32) / 2, "thumb": np.full((2, 3), start, np.uint8)}


def run_python(code: str, *arguments: object, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes, **options)  # type: ignore[call-overload, no-any-return]


# Segments and columns.


def test_committed_segment_comes_back_as_it_was(ledger: Ledger) -> None:
    kept = columns(5, 4) | {"black": np.array([True, False, True, False]), "file": np.zeros((0, 1), "<i8")}
    ledger.commit_segment(WORK, 7, kept)
    found = ledger.columns(WORK, [7])
    assert found.keys() == kept.keys()
    for name, values in kept.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_columns_join_in_order_of_segments_whatever_the_order_of_commits(ledger: Ledger) -> None:
    for number in (2, 0, 1):
        ledger.commit_segment(WORK, number, columns(number * 10, 10))
    assert ledger.segments(WORK) == {0, 1, 2}
    found = ledger.columns(WORK, {2, 1, 0})
    np.testing.assert_array_equal(found["pts"], np.arange(30))
    assert found["thumb"][:, 0].tolist() == [0, 0, 10, 10, 20, 20]


def test_repeated_commit_changes_nothing(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.commit_segment(WORK, 0, columns(0, 10))
    assert ledger.segments(WORK) == {0}
    assert len(ledger.columns(WORK, [0])["pts"]) == 10


def test_segment_in_which_nothing_was_taken_joins_with_the_others(ledger: Ledger) -> None:
    ledger.commit_segment(WORK, 0, {"pts": np.empty(0, np.int64)})
    ledger.commit_segment(WORK, 1, columns(0, 3))
    found = ledger.columns(WORK, [0, 1])
    assert found["pts"].tolist() == [0, 1, 2]
    assert len(found["score"]) == 3


def test_columns_of_a_segment_that_is_not_there_are_refused(ledger: Ledger) -> None:
    ledger.commit_segment(WORK, 0, columns(0, 3))
    with pytest.raises(KeyError, match="segment 1"):
        ledger.columns(WORK, [0, 1])


def test_works_do_not_see_each_other(ledger: Ledger) -> None:
    ledger.commit_segment(WORK, 0, columns(0, 3))
    other = work_key("content", {"model": "another"})
    assert ledger.segments(other) == set()


def test_python_objects_are_refused_with_the_columns_name(ledger: Ledger) -> None:
    with pytest.raises(RunError, match=r"'picture' holds Python objects.*on_segment"):
        ledger.commit_segment(WORK, 0, {"picture": np.array([None, object()])})
    with pytest.raises(RunError, match="'total' is a single value"):
        ledger.commit_segment(WORK, 0, {"total": np.array(3)})
    with pytest.raises(RunError, match=r"'box' has named fields.*a column of each"):
        ledger.commit_segment(WORK, 0, {"box": np.zeros(3, [("x", "i4"), ("y", "i4")])})
    assert ledger.segments(WORK) == set()


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 30), max_size=6), data=st.data())
def test_columns_do_not_depend_on_where_segments_are_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], data: st.DataObject
) -> None:
    values = np.arange(30) * 3
    parts = np.split(values, sorted(cuts))
    order = data.draw(st.permutations(range(len(parts))))
    with Ledger.open(tmp_path_factory.mktemp("ledger")) as ledger:
        for number in order:
            ledger.commit_segment(WORK, number, {"pts": parts[number]})
        np.testing.assert_array_equal(ledger.columns(WORK, range(len(parts)))["pts"], values)


# Rows and inputs.


def test_row_comes_back_with_nan_as_null_and_its_order_kept(ledger: Ledger) -> None:
    ledger.commit_row(WORK, "r", {"z": np.float32(0.5), "a": float("nan"), "list": (1, np.int64(2)), "t": "\udce9é"})
    row = ledger.row(WORK, "r")
    assert row == {"z": 0.5, "a": None, "list": [1, 2], "t": "\udce9é"}
    assert list(row) == ["z", "a", "list", "t"]


def test_row_of_other_options_is_another_row(ledger: Ledger) -> None:
    ledger.commit_row(WORK, row_key("task", {"worst": 0.1}, "1"), {"score": 1})
    assert ledger.row(WORK, row_key("task", {"worst": 0.2}, "1")) is None
    assert ledger.row(WORK, row_key("task", {"worst": 0.1}, "2")) is None
    assert ledger.row(WORK, row_key("task", {"worst": 0.1}, "1")) == {"score": 1}


def test_inputs_keep_the_runs_order_and_names_of_any_bytes(ledger: Ledger) -> None:
    name = os.fsdecode(b"/archive/caf\xe9 'x' \"y\"\n.mp4")
    ledger.set_input(1, "b.mp4", WORK, "done")
    ledger.set_input(0, name, None, "failed", "not_media", f"{name}: no media")
    ledger.set_input(1, "b.mp4", WORK, "reused")
    first, second = ledger.inputs()
    assert (first.position, first.path, first.key, first.status, first.error_kind) == (
        0,
        name,
        None,
        "failed",
        "not_media",
    )
    assert first.error_message == f"{name}: no media"
    assert (second.path, second.key, second.status, second.error_message) == ("b.mp4", WORK, "reused", None)


def test_clearing_inputs_keeps_the_work(ledger: Ledger) -> None:
    ledger.set_input(0, "a", WORK, "done")
    ledger.commit_segment(WORK, 0, columns(0, 3))
    ledger.clear_inputs()
    assert ledger.inputs() == []
    assert ledger.segments(WORK) == {0}


# Keys.


def test_work_key_tells_settings_and_contents_apart_but_not_their_order() -> None:
    one = work_key("c", {"model": "m", "view": {"grid": 7, "patch": 32}})
    assert one == work_key("c", {"view": {"patch": 32, "grid": 7}, "model": "m"})
    others = {
        work_key("d", {"model": "m", "view": {"grid": 7, "patch": 32}}),
        work_key("c", {"model": "n", "view": {"grid": 7, "patch": 32}}),
        work_key("c", {"model": "m", "view": {"grid": 7, "patch": 16}}),
        work_key("c", {}),
        row_key("c", {}, ""),
    }
    assert one not in others
    assert len(others) == 5


def test_work_key_stays_what_it_was() -> None:
    # A change of this value forgets everybody's finished work: raise FORMAT when you mean it.
    assert FORMAT == 2
    assert work_key("abc", {"sample": "2/s"}) == "da4531d2c8535bd587e8f0e4e2004d94"


def test_settings_that_are_not_plain_are_refused() -> None:
    with pytest.raises(TypeError, match="PosixPath is not a plain JSON value"):
        work_key("c", {"model": Path("m")})
    with pytest.raises(TypeError, match="must be a string"):
        work_key("c", {"labels": {1: "a"}})


# Two processes, and death.


def test_reader_sees_what_another_process_committed(ledger: Ledger) -> None:
    writer = run_python(
        """
        import sys, numpy as np
        from pathlib import Path
        from vpipe.ledger import Ledger
        with Ledger.open(Path(sys.argv[1])) as ledger:
            for number in range(20):
                ledger.commit_segment(sys.argv[2], number, {"pts": np.full(3, number)})
                print(number, flush=True)
                sys.stdin.readline()
        """,
        ledger.out,
        WORK,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    for number in range(20):
        assert writer.stdout.readline() == f"{number}\n"
        assert ledger.segments(WORK) == set(range(number + 1))
        ledger.commit_row(WORK, f"row {number}", {})  # both write
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert writer.communicate()[1] == ""
    assert writer.returncode == 0


@pytest.mark.parametrize("moment", [10, 40, 90])
def test_kill_in_mid_commit_loses_no_commit_and_leaves_none_half_done(tmp_path: Path, moment: int) -> None:
    writer = run_python(
        """
        import sys, numpy as np
        from pathlib import Path
        from vpipe.ledger import Ledger
        ledger = Ledger.open(Path(sys.argv[1]))
        ledger.lock()
        for number in range(100_000):
            ledger.commit_segment(sys.argv[2], number, {"pts": np.full(5000, number)})
            print(number, flush=True)
        """,
        tmp_path,
        WORK,
    )
    assert writer.stdout is not None
    said = b""
    while said.count(b"\n") < moment:
        said += os.read(writer.stdout.fileno(), 1 << 16)
    writer.send_signal(signal.SIGKILL)
    while more := os.read(writer.stdout.fileno(), 1 << 16):
        said += more
    writer.communicate()
    told = said.count(b"\n")
    with Ledger.open(tmp_path) as ledger:
        ledger.lock()  # died with its holder
        segments = ledger.segments(WORK)
        assert segments in (set(range(told)), set(range(told + 1)))  # the last one may have been told to nobody
        found = ledger.columns(WORK, segments)
        np.testing.assert_array_equal(found["pts"], np.repeat(sorted(segments), 5000))


def test_second_run_on_the_same_directory_is_told_who_holds_it(tmp_path: Path) -> None:
    holder = run_python(
        """
        import sys
        from pathlib import Path
        from vpipe.ledger import Ledger
        ledger = Ledger.open(Path(sys.argv[1]))
        ledger.lock()
        ledger.lock()
        print("locked", flush=True)
        sys.stdin.readline()
        """,
        tmp_path,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with Ledger.open(tmp_path) as ledger:
        with pytest.raises(ResourceError, match=f"another run \\(process {holder.pid}\\)"):
            ledger.lock()
        with pytest.raises(ResourceError, match=f"process {holder.pid}"):
            Ledger.open(tmp_path, fresh=True)
        holder.communicate("\n")
        ledger.lock()


def test_children_do_not_keep_the_lock_of_a_dead_supervisor(tmp_path: Path) -> None:
    supervisor = run_python(
        """
        import subprocess, sys
        from pathlib import Path
        from vpipe.ledger import Ledger
        ledger = Ledger.open(Path(sys.argv[1]))
        ledger.lock()
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=sys.stdin)
        print(child.pid, flush=True)
        child.wait()
        """,
        tmp_path,
    )
    assert supervisor.stdout is not None
    child = int(supervisor.stdout.readline())
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    os.kill(child, 0)  # it lives on
    with Ledger.open(tmp_path) as ledger:
        ledger.lock()
    supervisor.communicate()  # closes the child's standard input, which ends it


# What can be wrong with the directory or the file.


def test_fresh_forgets_everything(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.commit_segment(WORK, 0, columns(0, 3))
    with Ledger.open(tmp_path, fresh=True) as ledger:
        ledger.lock()  # is held already
        assert ledger.segments(WORK) == set()


def test_output_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    Ledger.open(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b" / DATABASE).is_file()


def test_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(
        ResourceError, match=r"out: cannot make the output directory: File exists; choose another with -o"
    ):
        Ledger.open(tmp_path / "out")


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o500)
    if os.access(out, os.W_OK):
        pytest.skip("this user may write everywhere (root)")
    yield out
    out.chmod(0o700)


def test_directory_that_cannot_be_written_is_refused(unwritable: Path) -> None:
    with pytest.raises(ResourceError, match="not writable by user"):
        Ledger.open(unwritable)


def test_directory_that_cannot_be_written_is_refused_by_another_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    out = tmp_path / "out"
    out.mkdir()
    for folder in (tmp_path, *tmp_path.parents[:2]):  # pytest keeps these to itself
        folder.chmod(0o755)
    code = """
        import os, sys
        from pathlib import Path
        from vpipe.ledger import Ledger
        os.setgid(65534); os.setuid(65534)
        Ledger.open(Path(sys.argv[1]))
        """
    run = run_python(code, out)
    assert "not writable by user 65534" in run.communicate()[1]


def test_lock_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with Ledger.open(tmp_path) as ledger, pytest.raises(ResourceError, match=r"ledger\.lock: cannot be opened"):
        ledger.lock()


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_damaged_file_is_refused_with_a_remedy_and_fresh_replaces_it(tmp_path: Path, damage: str) -> None:
    with Ledger.open(tmp_path) as ledger:
        for number in range(20):
            ledger.commit_segment(WORK, number, columns(0, 1000))
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    path.write_bytes(b"garbage" * 1000 if damage == "garbage" else whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(ResourceError, match=r"ledger\.sqlite: damaged.*--fresh"), Ledger.open(tmp_path) as ledger:
        ledger.columns(WORK, range(20))
    with Ledger.open(tmp_path, fresh=True) as ledger:
        assert ledger.segments(WORK) == set()


def test_damage_inside_a_segment_is_found(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.commit_segment(WORK, 0, {"pts": np.arange(1000)})
    path = tmp_path / DATABASE
    whole = path.read_bytes()
    at = whole.index(np.arange(100, 105).tobytes())
    path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
    with Ledger.open(tmp_path) as ledger, pytest.raises(ResourceError, match="damaged"):
        ledger.columns(WORK, [0])


@pytest.mark.parametrize("length", [0, 3, 7, 200])
def test_a_segment_that_was_cut_is_found(ledger: Ledger, length: int) -> None:
    ledger.commit_segment(WORK, 0, {"pts": np.arange(1000)})
    db = sqlite3.connect(ledger.out / DATABASE)
    db.execute("UPDATE segments SET columns = substr(columns, 1, ?)", (length,))
    db.commit()
    db.close()
    with pytest.raises(ResourceError, match="damaged"):
        ledger.columns(WORK, [0])


def test_columns_come_back_as_they_were(ledger: Ledger) -> None:
    kept = {
        "empty": np.empty((0, 3), np.float32),
        "turned": np.arange(12, dtype=">i2").reshape(3, 4).T[1:],
        "flags": np.array([True, False]),
        "words": np.array(["a", "längst"]),
        "moments": np.array(["2026-11-28T20:00"], "M8[s]"),
        "nan": np.array([np.nan, -0.0, np.inf]),
        "bytes": np.frombuffer(bytes(range(256)), np.uint8).reshape(-1, 1),
        "complex": np.array([[1 + 2j]], np.complex64),
    }
    ledger.commit_segment(WORK, 0, kept)
    found = ledger.columns(WORK, [0])
    assert list(found) == list(kept)
    for name, values in kept.items():
        assert found[name].shape == values.shape
        assert found[name].astype(values.dtype).tobytes() == values.tobytes()
        assert found[name].dtype == values.dtype.newbyteorder("="), "np.concatenate gives the machine's own"
        assert found[name].flags.writeable


def test_ledger_of_another_format_is_refused_and_fresh_replaces_it(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.commit_segment(WORK, 0, columns(0, 3))
    db = sqlite3.connect(tmp_path / DATABASE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ResourceError, match=r"ledger format 99, this one has 2\); use --fresh"):
        Ledger.open(tmp_path)
    with Ledger.open(tmp_path, fresh=True) as ledger:
        assert ledger.segments(WORK) == set()


def test_somebody_elses_database_is_refused_even_by_fresh(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / DATABASE)
    db.execute("CREATE TABLE photographs (name)")
    db.close()
    for fresh in (False, True):
        with pytest.raises(ResourceError, match="not a vpipe ledger"):
            Ledger.open(tmp_path, fresh=fresh)
    db = sqlite3.connect(tmp_path / DATABASE)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("photographs",)]
    db.close()


def test_database_locked_by_another_program_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpipe.database._BUSY_S", 0.05)
    with Ledger.open(tmp_path) as ledger:
        other = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ResourceError, match="locked by another program"):
            ledger.commit_row(WORK, "r", {})
        other.execute("ROLLBACK")
        other.close()
        ledger.commit_row(WORK, "r", {})


def test_database_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    (tmp_path / DATABASE).mkdir()
    with pytest.raises(ResourceError, match="check the permissions"):
        Ledger.open(tmp_path)


def test_use_after_close_is_our_own_bug(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.close()
    ledger.close()
    with pytest.raises(VpipeError, match="closed"):
        ledger.segments(WORK)


# A full disk.

FILL = """
    import resource, sys, numpy as np
    from pathlib import Path
    from vpipe.errors import ResourceError
    from vpipe.ledger import Ledger
    ledger = Ledger.open(Path(sys.argv[1]))
    limit = int(sys.argv[3])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    number = 0
    try:
        while number < 1000:
            ledger.commit_segment(sys.argv[2], number, {"pts": np.full(10_000, number)})
            number += 1
    except ResourceError as error:
        print(error)
    print(number, sorted(ledger.segments(sys.argv[2])) == list(range(number)))
    """


def check_full(out: Path, limit: int) -> tuple[str, int]:
    """Fill the disk from another process; return the message and how many segments were committed."""
    said, errors = run_python(FILL, out, WORK, limit).communicate()
    assert errors == ""
    message, counted = said.splitlines()
    number, whole = counted.split()
    assert whole == "True", "what was committed before the disk was full must be readable at once"
    return message, int(number)


def check_goes_on(out: Path, number: int) -> None:
    with Ledger.open(out) as ledger:
        assert ledger.segments(WORK) == set(range(number))
        ledger.commit_segment(WORK, number, {"pts": np.full(10_000, number)})
        found = ledger.columns(WORK, range(number + 1))
    np.testing.assert_array_equal(found["pts"], np.repeat(np.arange(number + 1), 10_000))


def test_file_size_limit_in_mid_run_loses_nothing_committed(tmp_path: Path) -> None:
    message, number = check_full(tmp_path, 3_000_000)
    assert "bytes free at" in message
    assert "run the same command again: finished work is kept" in message
    assert 0 < number < 1000
    check_goes_on(tmp_path, number)


def test_full_disk_in_mid_run_loses_nothing_committed(tmp_path: Path) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    disk = tmp_path / "disk"
    disk.mkdir()
    if mount is None or umount is None:
        pytest.skip("no mount here")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "vpipe-test", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {made.stderr.strip()}")
    try:
        message, number = check_full(disk / "out", 0)
        assert message.startswith("disk full: ")
        assert f"bytes free at {disk / 'out'}" in message
        assert 0 < number < 1000
        subprocess.run([mount, "-o", "remount,size=64m", disk], check=True)
        check_goes_on(disk / "out", number)
    finally:
        subprocess.run([umount, disk], check=True)


def test_file_size_limit_before_the_first_commit_is_told_when_opening(tmp_path: Path) -> None:
    run = run_python(
        """
        import sys
        from pathlib import Path
        from vpipe.errors import ResourceError
        from vpipe.ledger import Ledger
        try:
            Ledger.open(Path(sys.argv[1]))
        except ResourceError as error:
            print(error)
        """,
        tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        # Coverage could not save what it measured under that limit, and would say so.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    said, errors = run.communicate()
    assert errors == ""
    assert "bytes free at" in said

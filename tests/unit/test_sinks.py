"""Sinks: files are complete or absent, whatever happens while they are written."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vpipe import sinks
from vpipe.errors import ResourceError, RunError
from vpipe.sinks import atomic_file, write_jsonl, write_parquet
from vpipe.task import Columns


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# atomic_file


def test_nothing_is_seen_under_the_name_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert names(tmp_path) == ["a.txt"]


def test_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"new" * (1 // 0))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_file_has_the_permissions_that_the_users_mask_gives(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "a.txt"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_killed_writer_leaves_no_file_and_its_leftover_goes_with_the_next_write(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from vpipe.sinks import atomic_file
        with atomic_file(Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    path = tmp_path / "a.txt"
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not path.exists()
    with atomic_file(path) as file:
        file.write(b"whole")
    assert names(tmp_path) == ["a.txt"]
    assert path.read_bytes() == b"whole"


def test_directory_in_place_of_the_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with (
        pytest.raises(ResourceError, match=r"a\.txt: cannot be written: Is a directory"),
        atomic_file(tmp_path / "a.txt"),
    ):
        pass
    assert names(tmp_path) == ["a.txt"]


def test_full_disk_is_said_so_with_the_bytes_that_are_free(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceError, match=r"disk full .*bytes free at .*run the same command again"),
        atomic_file(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_file_size_limit_leaves_nothing_half_written(tmp_path: Path, kind: str) -> None:
    code = """
        import sys, numpy as np
        from pathlib import Path
        from vpipe import sinks
        from vpipe.errors import ResourceError
        sinks.GROUP_ROWS = 1000
        rng = np.random.default_rng(1)
        path = Path(sys.argv[1])
        try:
            if path.suffix == ".jsonl":
                sinks.write_jsonl(path, ({"row": row} for row in range(100_000)))
            else:
                streams = (({"path": "a", "key": "k"}, {"pts": rng.integers(0, 1 << 60, 1000)}) for _ in range(100))
                sinks.write_parquet(path, streams)
        except ResourceError as error:
            print(error)
        """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / f"a.{kind}"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("disk full (File too large)")
    assert run.stderr == ""
    assert names(tmp_path) == []


# JSON Lines


def test_lines_are_readable_json_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"path": "é 雨\n.mp4", "score": np.float64(1.5), "bad": float("inf")},
        {"path": os.fsdecode(b"caf\xe9")},
        {},
    ]
    write_jsonl(path, rows)
    lines = path.read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "é 雨\n.mp4", "score": 1.5, "bad": None},
        {"path": "caf\udce9"},
        {},
    ]
    assert "é 雨".encode() in lines[0]
    assert b"\\udce9" in lines[1]


def test_row_that_is_not_plain_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object is not a plain JSON value"):
        write_jsonl(tmp_path / "rows.jsonl", [{"a": 1}, {"a": object()}])
    assert names(tmp_path) == []


# Parquet


def stream(number: int, count: int, **more: Any) -> tuple[dict[str, Any], Columns]:
    pts = np.arange(count) * 40
    columns = {"pts": pts, "pts_s": pts / 1000, "score": np.full(count, number, np.float32), **more}
    return {"path": f"{number}.mp4", "key": f"k{number}"}, columns


def test_frames_of_all_streams_are_in_order_with_path_and_key(tmp_path: Path) -> None:
    path = tmp_path / "frames.parquet"
    write_parquet(path, (stream(number, 3, black=np.array([True, False, True])) for number in range(4)))
    table = pq.read_table(path)
    assert table.column_names == ["path", "key", "pts", "pts_s", "score", "black"]
    assert table["path"].to_pylist() == [f"{number}.mp4" for number in range(4) for _ in range(3)]
    assert table["key"].to_pylist()[3:6] == ["k1"] * 3
    assert table["pts_s"].to_pylist() == [0.0, 0.04, 0.08] * 4
    assert [str(field.type) for field in table.schema] == ["string", "string", "int64", "double", "float", "bool"]


def test_columns_that_are_not_per_frame_stay_out(tmp_path: Path) -> None:
    flat = {
        "thumb_jpeg": np.zeros((2, 1), np.uint8),
        "_seen": np.zeros(2),
        "short": np.zeros(1),
        "wide": np.zeros((2, 2)),
    }
    write_parquet(tmp_path / "f.parquet", [stream(0, 2, **flat)])
    assert pq.read_schema(tmp_path / "f.parquet").names == ["path", "key", "pts", "pts_s", "score"]


def test_streams_without_frames_are_left_out_and_no_stream_makes_an_empty_table(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write_parquet(path, [({"path": "a", "key": "k"}, {"pts": np.empty(0, np.int64)}), stream(1, 2)])
    assert pq.read_table(path).num_rows == 2
    write_parquet(path, [])
    assert pq.read_table(path).num_rows == 0
    assert pq.read_schema(path).names == ["path", "key", "pts", "pts_s"]


def test_path_that_is_not_utf8_is_spelled_out(tmp_path: Path) -> None:
    row, columns = stream(1, 1)
    write_parquet(tmp_path / "f.parquet", [(row | {"path": os.fsdecode(b"caf\xe9 \xc3\xa9.mp4")}, columns)])
    assert pq.read_table(tmp_path / "f.parquet")["path"].to_pylist() == ["caf\\xe9 é.mp4"]


def test_row_groups_hold_whole_streams_and_only_one_group_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "GROUP_ROWS", 100)
    path = tmp_path / "f.parquet"
    written: list[int] = []

    def streams() -> Iterator[tuple[dict[str, Any], Columns]]:
        for number in range(50):
            part = path.with_name(".f.parquet.part")
            written.append(part.stat().st_size if part.exists() else 0)
            yield stream(number, 30)

    write_parquet(path, streams())
    groups = pq.ParquetFile(path)
    sizes = [groups.metadata.row_group(at).num_rows for at in range(groups.num_row_groups)]
    assert sizes == [120] * 12 + [60]
    assert written[-1] > written[len(written) // 2] > written[0]


def test_columns_that_come_in_another_order_or_a_narrower_type_fit(tmp_path: Path) -> None:
    row, columns = stream(1, 2)
    turned = {"score": np.array([1, 2], np.float16), "pts_s": columns["pts_s"], "pts": columns["pts"].astype(np.int32)}
    write_parquet(tmp_path / "f.parquet", [stream(0, 2), (row, turned)])
    assert pq.read_table(tmp_path / "f.parquet")["score"].to_pylist() == [0.0, 0.0, 1.0, 2.0]


def test_time_is_null_where_the_task_gives_none(tmp_path: Path) -> None:
    write_parquet(tmp_path / "f.parquet", [({"path": "a", "key": None}, {"pts": np.arange(2)})])
    table = pq.read_table(tmp_path / "f.parquet")
    assert table["pts_s"].to_pylist() == [None, None]
    assert table["key"].to_pylist() == [None, None]


def test_streams_with_other_columns_are_refused_by_name_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"1\.mp4: its columns differ from the other streams' \(extra double\)"):
        write_parquet(tmp_path / "f.parquet", [stream(0, 2), stream(1, 2, extra=np.zeros(2))])
    assert names(tmp_path) == []

"""The same command again goes on where the last one stopped, and does again just what a change makes necessary."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.engine import (
    PIPELINE,
    Result,
    assert_equal,
    command,
    gone,
    results,
    run_all,
    short_clip,
    started,
    until,
    workers_of,
    write_pipeline,
)
from tests.faults import saboteurs
from vpipe import Pipeline, Run
from vpipe.ledger import Ledger


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name, seconds, tone in (("gated-a", 12, 1), ("plain-b", 3, 2), ("plain-c", 1, 3)):
        (folder / f"{name}.mp4").write_bytes(short_clip("resume", seconds, 10, tone).read_bytes())
    return folder


def again(pipeline: Path, sources: Any, out: Path, **options: Any) -> tuple[dict[str, Result], Run, dict[str, bool]]:
    reused = {}
    with Pipeline.load(pipeline, options.pop("overrides", None)).run(sources, out, **options) as run:
        found = {}
        for row in run:
            reused[Path(row["path"]).stem] = row["reused"]
            found |= {row["path"]: (row, run.columns(row))}
    plain = {path: ({k: v for k, v in row.items() if k not in ("timings", "reused")}, columns)
             for path, (row, columns) in found.items()}  # fmt: skip
    return plain, run, reused


def test_after_kill_9_of_everything_only_what_is_missing_is_decoded(media: Path, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml")
    site = tmp_path / "site"
    site.mkdir()
    saboteurs(site)
    expected = run_all(pipeline, [media], tmp_path / "expected")
    with started(command(pipeline, [media], tmp_path / "out"), site) as process:
        assert process.stdout is not None
        done = [process.stdout.readline(), process.stdout.readline()]  # the third file is held in its first segment
        assert b"" not in done
        with Ledger.open(tmp_path / "out") as ledger:
            query = "SELECT work, count(*) FROM segments GROUP BY work"
            until(lambda: sum(n for _, n in ledger._db.execute(query)) == 4, "the free segments to be committed")
        workers = workers_of(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: gone(workers.values()), "the workers to end")
    found, run, reused = again(pipeline, media, tmp_path / "out")
    assert_equal(found, expected)
    assert reused == {"gated-a": False, "plain-b": True, "plain-c": True}
    # Of the 300 frames of the long file, the first segment alone was missing.
    columns = next(columns for path, (_, columns) in found.items() if "gated" in path)
    assert columns is not None
    assert 0 < run.summary()["frames"] < 200
    assert len(columns["pts"]) == 300
    third, run, reused = again(pipeline, media, tmp_path / "out")
    assert_equal(third, expected)
    assert run.summary()["frames"] == 0
    assert all(reused.values())


def test_a_change_invalidates_just_what_it_must(media: Path, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml")
    clip = media / "plain-b.mp4"
    first, run, _ = again(pipeline, clip, tmp_path / "out")
    assert run.summary()["frames"] == 75
    # Other options of the task: pooled again from what is there, without decoding.
    options = {"branches.0.postprocess.options": {"weight": 3}}
    pooled, run, reused = again(pipeline, clip, tmp_path / "out", overrides=options)
    assert run.summary()["frames"] == 0
    assert reused == {"plain-b": True}
    assert pooled[str(clip)][0]["total"] == 3 * first[str(clip)][0]["total"]
    # Another sampling, and another view: decoded again.
    for overrides, frames in (
        ({"source.sample": "5/s"}, 15),
        ({"branches.0.view.width": 16}, 75),
        ({"branches.0.postprocess.task": "tests.faults:InOrder"}, 75),
    ):
        _, run, reused = again(pipeline, clip, tmp_path / "out", overrides=overrides)
        assert run.summary()["frames"] == frames
        assert reused == {"plain-b": False}
    # The first results are still there.
    last, run, _ = again(pipeline, clip, tmp_path / "out")
    assert run.summary()["frames"] == 0
    assert_equal(last, first)
    # Fresh forgets.
    last, run, _ = again(pipeline, clip, tmp_path / "out", fresh=True)
    assert run.summary()["frames"] == 75
    assert_equal(last, first)


def test_changed_content_under_the_same_name_is_decoded_again(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml")
    clip = tmp_path / "clip.mp4"
    keys = []
    for tone in (1, 2):
        clip.write_bytes(short_clip("resume", 1, 10, tone).read_bytes())
        with Pipeline.load(pipeline).run(clip, tmp_path / "out") as run:
            ((row, _),) = results(run).values()
        assert run.summary()["frames"] == 25
        keys.append(row["key"])
    assert keys[0] != keys[1]


def test_the_same_content_under_two_names_is_decoded_once(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml", PIPELINE)
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.mp4").write_bytes(short_clip("resume", 2, 10, 5).read_bytes())
    found, run, reused = again(pipeline, tmp_path, tmp_path / "out")
    assert run.summary()["frames"] == 50
    assert sorted(reused.values()) == [False, True, True]
    rows = [{**row, "path": None} for row, _ in found.values()]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["count"] == 50
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 3


def test_failed_files_are_tried_again(tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml")
    clip = tmp_path / "late.mp4"
    statuses = []
    for _ in range(2):
        with Pipeline.load(pipeline).run(clip, tmp_path / "out") as run:
            statuses += [row["status"] for row in run]
        clip.write_bytes(short_clip("resume", 1).read_bytes())
    assert statuses == ["failed", "done"]

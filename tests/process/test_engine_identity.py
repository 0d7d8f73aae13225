"""The whole engine gives what plain sequential PyAV gives, however many workers share the work."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine import Result, results
from tests.faults import saboteurs
from tests.media import make_clip
from tests.models import write_mean
from tests.process.test_identity import sequential
from vpipe import Pipeline
from vpipe.config import ViewConfig
from vpipe.media import Picture, Sample, open_media
from vpipe.media.reader import flags_of
from vpipe.view import make_view, view_fields

CLIPS = ("h264-open", "h264-pyramid-open", "h264-cavlc", "hevc-open", "vp9", "av1", "mpeg2-ts", "mpeg4-avi", "vfr-mkv")
VIEW = ViewConfig(kind="fragments", grid=2, patch=8, pair=True, histogram=True)
PIPELINE = """
name = "identity"
[[branches]]
name = "view"
[branches.view]
kind = "fragments"
grid = 2
patch = 8
pair = true
histogram = true
[branches.batch]
max_size = 3
max_wait_ms = 10
[branches.infer]
model = "MODEL"
[branches.postprocess]
task = "tests.faults:InOrder"
"""
SMALL = """
[[branches]]
name = "small"
[branches.view]
kind = "resize"
width = 8
height = 8
histogram = true
[branches.infer]
model = "null"
[branches.postprocess]
task = "tests.faults:Record"
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity")
    path = folder / "identity.toml"
    path.write_text(PIPELINE.replace("MODEL", str(write_mean(folder / "model", (2, 16, 16)))))
    return path


@pytest.fixture(autouse=True)
def short_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(saboteurs(site, shortest=20)))
    return


def plainly(path: Path, sample: Sample) -> dict[str, list[float]]:
    """Decode everything from start to end, choose, pair by the rule, make the view and take its mean."""
    frames, keys, lost = sequential(path)
    pts, base = [frame.pts for frame in frames], frames[0].time_base
    view, found = make_view(VIEW), {"pts": [], "index": [], "score": [], "check": []}
    for rank in sample.choose(pts, keys, base):
        other = max(rank - 1, 0)
        if (keys[rank] or rank == 0) and rank + 1 < len(frames) and not keys[rank + 1]:
            other = rank + 1
        frame = frames[rank]
        flags = flags_of(frame, keys[rank], lost[rank])
        out = {field.name: np.zeros(field.shape, field.dtype) for field in view_fields(VIEW)}
        size = frame.width, frame.height
        view.render(Picture(pts[rank], rank, flags, frame, frames[other], base, pts[0], None, *size), out)
        found["pts"].append(pts[rank])
        found["index"].append(rank)
        found["score"].append(float(out["view"].mean(dtype=np.float64)))
        found["check"].append(zlib.crc32(out["histogram"].tobytes()))
    return found


@pytest.mark.parametrize(
    ("sample", "workers"), [("every", [1, 2, 4]), ("2/s", [1, 2]), ("7/3/s", [2]), ("n=5", [2]), ("keyframes", [2])]
)
def test_all_worker_counts_give_what_sequential_decoding_gives(
    sample: str, workers: list[int], pipeline: Path, tmp_path: Path
) -> None:
    paths = [make_clip(name) for name in CLIPS]
    runs: list[dict[str, Result]] = []
    for count in workers:
        loaded = Pipeline.load(pipeline, {"source.sample": sample, "decode.workers": count})
        with loaded.run(paths, tmp_path / str(count)) as run:
            runs.append(results(run))
    for path in paths:
        expected = plainly(path, Sample.parse(sample))
        for found in runs:
            row, columns = found[str(path)]
            assert row["status"] == "done"
            assert row["frames"]["taken"] == row["count"] == len(expected["pts"])
            assert not row["late"], "segments came out of order"
            assert columns is not None
            for name in ("pts", "index", "check"):
                assert columns[name].tolist() == expected[name], f"{path.name}: {name}"
            np.testing.assert_allclose(columns["score"], expected["score"], rtol=1e-5)
            first = runs[0][str(path)][1]
            assert first is not None
            assert columns["score"].tobytes() == first["score"].tobytes()


def test_a_branch_more_changes_nothing_and_both_are_told_apart(pipeline: Path, tmp_path: Path) -> None:
    text = pipeline.read_text()
    both = tmp_path / "both.toml"
    both.write_text(text + SMALL + '[[sinks]]\nkind = "parquet"\npath = "frames.parquet"\n')
    path = make_clip("h264-open")
    with Pipeline.load(pipeline).run(path, tmp_path / "one") as run:
        ((row, columns),) = results(run).values()
    with Pipeline.load(both).run(path, tmp_path / "two") as run:
        (double,) = list(run)
        again, other = run.columns(double, "view"), run.columns(double, "small")
        assert (run.out / "frames-view.parquet").exists()
        assert (run.out / "frames-small.parquet").exists()
    assert columns is not None
    assert again is not None
    assert other is not None
    assert double["view"]["total"] == row["total"]
    assert again["score"].tobytes() == columns["score"].tobytes()
    assert other["pts"].tolist() == columns["pts"].tolist()
    assert other["check"].tolist() != columns["check"].tolist()


def test_tasks_are_told_how_coarsely_packets_were_coded(tmp_path: Path) -> None:
    pipeline = tmp_path / "weighed.toml"
    pipeline.write_text('name = "weighed"\n' + SMALL.replace("faults:Record", "faults:Weighed"))
    known, unknown = make_clip("h264-cavlc"), make_clip("yuv444")
    names, runs = ("key_quantiser", "other_quantiser"), []
    for workers in (1, 2):
        loaded = Pipeline.load(pipeline, {"decode.workers": workers})
        with loaded.run([known, unknown], tmp_path / str(workers)) as run:
            runs.append({row["path"]: {name: row[name] for name in names} for row in run})
    assert runs[0] == runs[1]
    with open_media(str(known)) as media:
        _, segments = media.plan(Sample.parse("every"))
    # The workers' segments are shorter ones.
    assert len(runs[0][str(known)]["key_quantiser"]) > len(segments) == 1
    for name in names:
        mean = getattr(segments[0].weight, name)
        assert all(abs(value - mean) < 3 for value in runs[0][str(known)][name])
        assert set(runs[0][str(unknown)][name]) == {None}

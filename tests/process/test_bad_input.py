"""Files that are no videos, or broken ones, get a row with a reason; good ones beside them are done all the same."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import (
    PIPELINE,
    assert_equal,
    command,
    environment,
    results,
    rows_of,
    run_all,
    short_clip,
    started,
    workers_of,
)
from tests.engine import write_pipeline as write
from tests.faults import saboteurs
from tests.media import broken, encode, flip_bits, folder, make_clip
from tests.models import write_mean
from vpipe import Pipeline
from vpipe.errors import ConfigError, ModelError, ResourceError, SourceError

MUTATIONS = 50
"""Of each container."""


def clip_of(extension: str, options: str) -> Path:
    path = folder() / f"mutant-source.{extension}"
    return path if path.exists() else encode(path, "testsrc2=size=96x64:rate=25:duration=1", options)


def test_every_bad_input_gets_a_row_and_good_files_are_done(tmp_path: Path) -> None:
    odd, where = {}, tmp_path / "in"
    where.mkdir()

    def put(name: str | bytes, data: bytes) -> str:
        path = os.path.join(os.fsencode(where), os.fsencode(name))
        with open(path, "wb") as file:
            file.write(data)
        return os.fsdecode(path)

    names = ("good.mp4", "with space.mp4", "quote'\".mp4", "new\nline.mp4", b"not-utf8-\xff\xfe.mp4", "%d-*?[a].mp4")
    good = [put(name, short_clip("bad", 1, 10, 10 + tone).read_bytes()) for tone, name in enumerate(names)]
    sound = short_clip("bad", 1, 10, 3).read_bytes()
    good.append(put("tiny.mkv", make_clip("tiny").read_bytes()))
    good.append(put("one.mp4", make_clip("one-frame").read_bytes()))
    huge = folder() / "huge.mp4"
    if not huge.exists():
        encode(huge, "color=size=7680x4320:rate=25:duration=0.08", "-c:v libx264 -preset ultrafast -pix_fmt yuv420p")
    good.append(put("huge.mp4", huge.read_bytes()))
    wrong = {
        "zero.mp4": "0 bytes", "text.mp4": "not a video", "moov-missing.mp4": "no index (moov)",
        "audio-only.mp4": "sound but no picture", "no-keyframe.ts": "",
    }  # fmt: skip
    for name in (*wrong, "cut-10.mp4", "cut-50.mp4", "cut-99.mp4", "cut-50-ts.ts", "flipped.mp4"):
        odd[put(name, broken(name.rpartition(".")[0]).read_bytes())] = wrong.get(name)
    (where / "folder.mp4").mkdir()
    odd[str(where / "folder.mp4")] = "directory"
    (where / "dangling.mp4").symlink_to(where / "nowhere")
    odd[str(where / "dangling.mp4")] = "does not exist"
    os.mkfifo(where / "pipe.mp4")
    odd[str(where / "pipe.mp4")] = "pipe"
    odd[str(where / "missing.mp4")] = "does not exist"
    secret = tmp_path / "secret.ts"
    secret.write_bytes(make_clip("mpeg2-ts").read_bytes())
    odd[put("list.m3u8", f"#EXTM3U\n#EXTINF:3,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode())] = ""
    odd[put("concat.mp4", f"ffconcat version 1.0\nfile {secret}\n".encode())] = ""
    odd["ftp://example.invalid/a.mp4"] = "not supported"
    odd[put("junk.mp4", sound[:200] + bytes(5000))] = ""
    pipeline = write(tmp_path / "small.toml")
    done = subprocess.run(
        command(pipeline, [*good, *odd], tmp_path / "out"), env=environment(), capture_output=True, check=False
    )
    rows = {row["path"]: row for row in rows_of(done.stdout)}
    assert done.returncode == 3, done.stderr.decode(errors="replace")
    assert len(rows) == len(done.stdout.splitlines()) == len(good) + len(odd)
    for path in good:
        assert rows[path]["status"] == "done", rows[path]
        assert rows[path]["count"] >= 1
    for path, part in odd.items():
        row = rows[path]
        if part is not None:
            assert row["status"] == "failed", row
        if row["status"] == "failed":
            assert row["error"]["kind"] not in ("crashed", "hung"), row
            assert (part or "") in row["error"]["message"]
            assert len(row["error"]["message"]) > 20
            assert "\n" not in row["error"]["message"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [*good, *odd], "rows are in the order of the inputs"


def test_two_hundred_mutated_files_each_get_a_row_and_nothing_hangs(tmp_path: Path) -> None:
    where = tmp_path / "in"
    where.mkdir()
    x264 = "-c:v libx264 -preset ultrafast -g 10 -bf 1 -crf 40 -threads 1 -pix_fmt yuv420p"
    kinds = {"mp4": x264, "mkv": x264, "ts": x264, "avi": "-c:v mpeg4 -g 10 -q:v 20"}
    for extension, options in kinds.items():
        data = clip_of(extension, options).read_bytes()
        for seed in range(MUTATIONS):
            # Half of the mutants are hurt in the first part alone, where the headers are.
            head = data[: 1200 if seed % 2 else len(data)]
            changed = flip_bits(head, seed, 4 + seed % 30) + data[len(head) :]
            (where / f"{seed:03}.{extension}").write_bytes(changed)
    sound = where / "sound.mp4"
    sound.write_bytes(short_clip("bad", 1).read_bytes())
    pipeline = write(tmp_path / "small.toml", hang_s=60)
    found = run_all(pipeline, [where], tmp_path / "out")
    assert len(found) == 4 * MUTATIONS + 1
    assert found[str(sound)][0]["status"] == "done"
    states = [row["status"] for row, _ in found.values()]
    assert set(states) <= {"done", "failed"}
    for row, _ in found.values():
        assert row["status"] == "done" or (len(row["error"]["message"]) > 20 and row["error"]["kind"])
    kinds_told = sorted({row["error"]["kind"] for row, _ in found.values() if row["error"]})
    print({state: states.count(state) for state in states}, kinds_told)


# Root reads everything by a capability; without it, root is held to a file's mode like anyone else.
POWERLESS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_an_unreadable_file_gets_a_row(tmp_path: Path) -> None:
    secret, good = tmp_path / "secret.mp4", tmp_path / "good.mp4"
    secret.write_bytes(short_clip("bad", 1).read_bytes())
    good.write_bytes(short_clip("bad", 2).read_bytes())
    secret.chmod(0)
    launcher = [sys.executable, "-c", POWERLESS]
    if subprocess.run([*launcher, "-c", f"open({str(secret)!r})"], capture_output=True, check=False).returncode == 0:
        pytest.skip("root may read everything here")
    line = command(write(tmp_path / "small.toml"), [secret, good], tmp_path / "out")
    done = subprocess.run([*launcher, *line[1:]], env=environment(), capture_output=True, check=False)
    assert done.returncode == 3, done.stderr.decode()
    rows = {Path(row["path"]).stem: row for row in rows_of(done.stdout)}
    assert rows["good"]["status"] == "done"
    assert rows["secret"]["error"]["kind"] == "unreadable"
    assert "Permission denied" in rows["secret"]["error"]["message"]


# --- the machine and the user ---


def test_too_little_memory_for_the_rings_is_told_with_numbers_before_anything_starts(tmp_path: Path) -> None:
    sizes = {"branches.0.view.width": 60000, "branches.0.view.height": 60000, "decode.slots": 64}
    with pytest.raises(ResourceError, match=r"needs \d+ MiB of shared memory, \d+ MiB are free; lower"):
        Pipeline.load(write(tmp_path / "small.toml"), sizes).run(short_clip("bad", 1), tmp_path / "out")


def test_too_few_slots_for_a_batch_is_told_with_the_knobs(tmp_path: Path) -> None:
    sizes = {"decode.slots": 2, "decode.workers": 1, "branches.0.batch.max_size": 16}
    with pytest.raises(ConfigError, match=r"decode\.slots: 2 slots of 4 x 1 workers cannot fill a batch of 16"):
        Pipeline.load(write(tmp_path / "small.toml"), sizes).plan()


def test_a_ring_smaller_than_a_batch_only_waits_for_the_batch_deadline(tmp_path: Path) -> None:
    sizes = {"decode.slots": 2, "decode.workers": 2, "branches.0.batch.max_size": 4, "branches.0.batch.slots": 2}
    found = run_all(write(tmp_path / "small.toml"), [short_clip("bad", 2)], tmp_path / "out",
                    **{name.replace(".", "__"): value for name, value in sizes.items()})  # fmt: skip
    assert [row["count"] for row, _ in found.values()] == [50]


def model_pipeline(tmp_path: Path) -> tuple[Path, Path]:
    manifest = write_mean(tmp_path / "model", (32, 32, 3))
    return write(tmp_path / "model.toml", PIPELINE.replace('model = "null"', f'model = "{manifest}"')), manifest


def test_a_corrupt_model_and_an_unknown_device_end_the_run_at_once(tmp_path: Path) -> None:
    pipeline, manifest = model_pipeline(tmp_path)
    with Pipeline.load(pipeline, {"branches.0.infer.device": "ABACUS"}).run(
        short_clip("bad", 1), tmp_path / "a"
    ) as run:
        with pytest.raises(ResourceError, match="ABACUS"):
            list(run)
        assert run.summary()["stages"]["infer.view"]["restarts"] == 0
    weights = manifest.parent / "tiny.xml"
    weights.write_bytes(flip_bits(weights.read_bytes(), 1))
    with (
        Pipeline.load(pipeline).run(short_clip("bad", 1), tmp_path / "b") as run,
        pytest.raises(ModelError, match=r"tiny\.xml"),
    ):
        list(run)
    done = subprocess.run(
        command(pipeline, [short_clip("bad", 1)], tmp_path / "c"), env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"tiny.xml" in done.stderr
    assert b"Traceback" not in done.stderr


def test_sources_that_name_nothing_are_wrong_use(tmp_path: Path) -> None:
    pipeline = write(tmp_path / "small.toml")
    (tmp_path / "empty").mkdir()
    for sources in ([], [tmp_path / "empty"], [tmp_path / "no-*.mp4"]):
        with pytest.raises(SourceError, match="nothing to do"):
            Pipeline.load(pipeline).run(sources, tmp_path / "out")
    done = subprocess.run(
        command(pipeline, [tmp_path / "empty"], tmp_path / "out"), env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 2


def test_an_output_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot make the output directory"):
        Pipeline.load(write(tmp_path / "small.toml")).run(short_clip("bad", 1), tmp_path / "file" / "out")


@pytest.mark.parametrize("whose", ["postprocess", "supervisor"])
def test_a_full_disk_ends_the_run_and_loses_nothing(whose: str, tmp_path: Path) -> None:
    where = tmp_path / "in"
    where.mkdir()
    for name, tone in (("gated-a", 1), ("plain-b", 2)):
        (where / f"{name}.mp4").write_bytes(short_clip("disk", 6, 10, tone).read_bytes())
    site = tmp_path / "site"
    site.mkdir()
    pipeline = write(tmp_path / "small.toml")
    line = command(pipeline, [where], tmp_path / "out")
    with started(line, saboteurs(site)) as process:
        assert process.stdout is not None
        first = rows_of(process.stdout.readline())
        pid = process.pid if whose == "supervisor" else workers_of(process.pid)["postprocess"].pid
        # From here on no file of it may grow beyond what the ledger's log has already.
        size = (tmp_path / "out" / "ledger.sqlite-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
        (where / "gated-a.mp4.go").touch()
        _, errors = process.communicate()
    assert process.returncode == 1, errors.decode()
    # Where coverage is measured, its own file may not grow either, and it says so after all else.
    last = [line for line in errors.decode().splitlines() if line.startswith("vpipe: ")][-1]
    assert "bytes free at" in last
    assert "run the same command again: finished work is kept" in last
    assert not list((tmp_path / "out").glob(".*.part"))
    expected = run_all(pipeline, [where], tmp_path / "expected")
    with Pipeline.load(pipeline).run(where, tmp_path / "out") as run:
        found = {}
        reused = 0
        for row in run:
            reused += row["reused"]
            found[row["path"]] = row["total"]
    assert reused >= len(first) == 1
    assert found == {path: row["total"] for path, (row, _) in expected.items()}


def test_the_frames_of_a_failed_file_are_forgotten_and_the_rest_is_as_ever(tmp_path: Path) -> None:
    sound = short_clip("bad", 2, 10, 1)
    pipeline = write(tmp_path / "small.toml")
    expected = run_all(pipeline, [sound], tmp_path / "a")
    with Pipeline.load(pipeline).run([broken("zero"), sound, broken("text")], tmp_path / "b") as run:
        found = results(run)
    assert_equal({str(sound): found[str(sound)]}, expected)

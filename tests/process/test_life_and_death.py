"""Workers, supervisor and run are killed, stopped and interrupted; nothing is lost and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import (
    PIPELINE,
    ROOT,
    Result,
    assert_equal,
    command,
    environment,
    gone,
    results,
    rows_of,
    run_all,
    short_clip,
    started,
    until,
    workers_of,
    write_pipeline,
)
from tests.faults import saboteurs
from vpipe import Pipeline
from vpipe.errors import ConfigError, Interrupted, ResourceError, RunError, TaskError

STAGES = ["decode[0]", "decode[1]", "preprocess.view", "infer.view", "postprocess"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four clips; the first segment of `gated-a` waits while the saboteurs are in and the gate is shut."""
    folder = tmp_path_factory.mktemp("media")
    for name, seconds, tone in (("gated-a", 8, 1), ("plain-b", 3, 2), ("plain-c", 2, 3), ("plain-d", 1, 4)):
        (folder / f"{name}.mp4").write_bytes(short_clip("life", seconds, 10, tone).read_bytes())
    return folder


@pytest.fixture(scope="module")
def sabotage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saboteurs(tmp_path_factory.mktemp("site"))


@pytest.fixture
def gate(media: Path, sabotage: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.syspath_prepend(str(sabotage))
    gate = Gate(media)
    yield gate
    gate.shut()


class Gate:
    """Holds the gated clips back, or lets them through."""

    def __init__(self, media: Path) -> None:
        self._media = media

    def open(self) -> None:
        for path in self._media.glob("gated*.mp4"):
            Path(f"{path}.go").touch()

    def shut(self) -> None:
        for path in self._media.glob("*.go"):
            path.unlink()


@pytest.fixture(scope="module")
def expected(media: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What an undisturbed run gives."""
    folder = tmp_path_factory.mktemp("expected")
    found = run_all(write_pipeline(folder / "small.toml"), [media], folder / "out")
    assert [columns is not None and len(columns["pts"]) for _, columns in found.values()].count(False) == 0
    return found


def has_moved(run, name: str) -> bool:
    return run.counters()[name].frames > 0 or run.counters()[name].items > 0


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "decode[1]"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_run_survives_the_loss_of_any_worker_with_the_same_results(
    stage: str, how: signal.Signals, media: Path, gate: Gate, expected: dict[str, Result], tmp_path: Path
) -> None:
    hang_s = 3 if how == signal.SIGSTOP else 60
    pipeline = write_pipeline(tmp_path / "small.toml", hang_s=hang_s, tries=9, restarts=9)
    with Pipeline.load(pipeline).run(media, tmp_path / "out") as run:
        until(lambda: has_moved(run, stage) and run.counters()["postprocess"].frames > 0, f"{stage} to be at work")
        pid = run.supervisor.processes()[stage]
        os.kill(pid, how)
        if how == signal.SIGSTOP:
            until(lambda: run.supervisor.processes().get(stage, pid) != pid, f"{stage} to be replaced")
        gate.open()
        found = results(run)
        assert run.summary()["stages"][stage]["restarts"] >= 1
    assert_equal(found, expected)
    assert gone(map_pids([pid]))


def map_pids(pids: list[int]) -> Iterator:
    import psutil

    for pid in pids:
        if psutil.pid_exists(pid):
            yield psutil.Process(pid)


def test_a_run_survives_the_loss_of_all_workers_at_once(
    media: Path, gate: Gate, expected: dict[str, Result], tmp_path: Path
) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml", hang_s=60, tries=9, restarts=9)
    with Pipeline.load(pipeline).run(media, tmp_path / "out") as run:
        for _ in range(2):
            until(lambda: has_moved(run, "decode[0]"), "the run to be at work")
            for pid in run.supervisor.processes().values():
                os.kill(pid, signal.SIGKILL)
            until(lambda: len(run.supervisor.processes()) == len(STAGES), "new workers")
        gate.open()
        found = results(run)
    assert_equal(found, expected)


def test_a_worker_that_keeps_dying_ends_the_run_with_its_name_code_and_last_words(tmp_path: Path) -> None:
    text = PIPELINE.replace("tests.faults:Record", "tests.faults:DiesInStream")
    pipeline = write_pipeline(tmp_path / "small.toml", text, restarts=1)
    run = Pipeline.load(pipeline).run(short_clip("one", 1), tmp_path / "out")
    with run, pytest.raises(RunError) as error:
        list(run)
    assert error.value.exit_code == 1
    for part in ("postprocess", "died 2 times", "exit code 7", "the last word of a dying task"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("RaisesInBatch", ["on_batch", "ZeroDivisionError", "divides by nothing", "faults.py"]),
        ("RaisesInStream", ["on_stream", "LookupError", "lost its way"]),
        ("Miscounts", ["on_batch", "column 'value' has"]),
    ],
)
def test_a_task_that_raises_ends_the_run_with_its_name(task: str, parts: list[str], tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml", PIPELINE.replace("faults:Record", f"faults:{task}"))
    run = Pipeline.load(pipeline).run(short_clip("one", 1), tmp_path / "out")
    with run, pytest.raises(TaskError) as error:
        list(run)
    assert error.value.exit_code == 1
    for part in (f"tests.faults:{task}", "branch view", *parts):
        assert part in str(error.value)


def test_poisonous_files_are_quarantined_with_the_reason_and_others_go_on(
    sabotage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(sabotage))
    for number, name in enumerate(("never-ends", "hangs", "crashes-a", "crashes-b", "crashes-c", "babbles", "good")):
        (tmp_path / f"{name}.mp4").write_bytes(short_clip("poison", 1, 10, number).read_bytes())
    text = PIPELINE.replace("workers = 2", "workers = 2\ndeadline_s = 1")
    # More deaths than the budget has restarts: a file answers for the deaths over it.
    pipeline = write_pipeline(tmp_path / "small.toml", text, hang_s=3, tries=2, restarts=1)
    found = run_all(pipeline, sorted(tmp_path.glob("*.mp4")), tmp_path / "out")
    rows = {Path(path).stem: row for path, (row, _) in found.items()}
    assert rows["good"]["status"] == "done"
    assert rows["good"]["count"] == 25
    told = {name: (row["error"]["kind"], row["error"]["message"]) for name, row in rows.items() if row["error"]}
    assert told["never-ends"][0] == "deadline"
    assert "longer than 1 s" in told["never-ends"][1]
    assert told["hangs"][0] == "hung"
    assert "tried 2 times" in told["hangs"][1]
    assert "no life for 3 s" in told["hangs"][1]
    assert told["babbles"][0] == "crashed"
    assert "it sent something that makes no sense" in told["babbles"][1]
    for name in ("crashes-a", "crashes-b", "crashes-c"):
        assert told[name][0] == "crashed"
        assert "tried 2 times" in told[name][1]
        assert "SIGSEGV" in told[name][1]


@pytest.mark.parametrize("stopped", [None, "decode[0]", "postprocess"])
def test_nothing_outlives_a_killed_supervisor_and_the_same_command_completes(
    stopped: str | None, media: Path, gate: Gate, sabotage: Path, expected: dict[str, Result], tmp_path: Path
) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml")
    line = command(pipeline, [media], tmp_path / "out")
    with started(line, sabotage) as process:
        # Three clips are done, the gated one is held in the middle.
        assert process.stdout is not None
        for _ in range(3):
            process.stdout.readline()
        workers = workers_of(process.pid)
        assert sorted(workers) == sorted(STAGES)
        if stopped is not None:
            workers[stopped].suspend()
        process.kill()
        process.wait()
        until(lambda: gone(workers.values()), "the workers to end")
    gate.open()
    with Pipeline.load(pipeline).run(media, tmp_path / "out") as run:
        rows = list(run)
        assert sum(row["reused"] for row in rows) == 3
        found = {row["path"]: row for row in rows}
    for path, (row, _) in expected.items():
        assert found[path]["total"] == row["total"]
    assert not list((tmp_path / "out").glob(".*.part"))


def test_workers_stopped_before_they_are_bound_to_the_supervisor_do_not_outlive_it(media: Path, tmp_path: Path) -> None:
    line = command(write_pipeline(tmp_path / "small.toml"), [media], tmp_path / "out")
    with started(line) as process:
        workers = until(lambda: list(workers_of(process.pid).values()), "the first worker")
        for worker in workers:
            worker.suspend()
        until(lambda: all(worker.status() == "stopped" for worker in workers), "the workers to stop")
        process.kill()
        process.wait()
        until(lambda: gone(workers), "the workers to end")


def test_first_interrupt_drains_and_the_same_command_goes_on(
    media: Path, gate: Gate, sabotage: Path, expected: dict[str, Result], tmp_path: Path
) -> None:
    line = command(write_pipeline(tmp_path / "small.toml"), [media], tmp_path / "out")
    with started(line, sabotage) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = workers_of(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        assert process.stderr is not None
        for told in process.stderr:
            if b"work in flight is being finished" in told:
                break
        assert not gone(workers.values())
        gate.open()
        _, errors = process.communicate()
        assert process.returncode == 130
        assert b"run the same command again to go on" in errors
        assert gone(workers.values())
    done = subprocess.run(line, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0
    rows = {row["path"]: row for row in rows_of(done.stdout)}
    assert {path: row["total"] for path, row in rows.items()} == {
        path: row["total"] for path, (row, _) in expected.items()
    }
    assert sum(row["reused"] for row in rows.values()) >= 1


def test_second_interrupt_ends_the_run_at_once(media: Path, gate: Gate, sabotage: Path, tmp_path: Path) -> None:
    line = command(write_pipeline(tmp_path / "small.toml", drain_s=1000), [media], tmp_path / "out")
    with started(line, sabotage) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        for told in process.stderr:
            if b"work in flight is being finished" in told:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 130
        assert gone(workers.values())


def test_draining_ends_at_its_deadline(media: Path, gate: Gate, tmp_path: Path) -> None:
    pipeline = write_pipeline(tmp_path / "small.toml", drain_s=0.5)
    with Pipeline.load(pipeline).run(media, tmp_path / "out") as run:
        rows = iter(run)
        next(rows)
        run.stop()
        with pytest.raises(Interrupted):
            list(rows)


def test_an_output_directory_has_one_run_at_a_time(media: Path, gate: Gate, tmp_path: Path) -> None:
    pipeline = Pipeline.load(write_pipeline(tmp_path / "small.toml"))
    with pipeline.run(media, tmp_path / "out"):
        for fresh in (False, True):
            with pytest.raises(ResourceError, match=f"another run \\(process {os.getpid()}\\)"):
                pipeline.run(media, tmp_path / "out", fresh=fresh)
    with pipeline.run(short_clip("one", 1), tmp_path / "out") as run:
        assert [row["status"] for row in run] == ["done"]


def test_runs_leave_no_descriptor_process_or_shared_memory(tmp_path: Path) -> None:
    def held() -> tuple[int, set[str], int]:
        import psutil

        shared = {name for name in os.listdir("/dev/shm") if name.startswith(("vpipe", "psm_", "sem."))}
        return len(os.listdir("/proc/self/fd")), shared, len(psutil.Process().children())

    pipeline = Pipeline.load(write_pipeline(tmp_path / "small.toml"))
    clip = short_clip("one", 1)
    with pipeline.run(clip, tmp_path / "first") as run:
        list(run)
    before = held()
    for number in range(2):
        with pipeline.run(clip, tmp_path / f"out-{number}") as run:
            list(run)
    with pipeline.run(clip, tmp_path / "left") as run:
        next(iter(run))  # and walks away
    pipeline.run(clip, tmp_path / "unused").close()
    with pytest.raises(ResourceError):
        Pipeline.load(tmp_path / "small.toml", {"decode.slots": 1024, "branches.0.view.width": 200000}).run(
            clip, tmp_path / "none"
        )
    assert held() == before


def test_a_task_of_the_script_itself_is_refused(tmp_path: Path) -> None:
    text = PIPELINE.replace("tests.faults:Record", "__main__:Record")
    with pytest.raises(ConfigError, match=r"branches\[0\]\.postprocess\.task: .*workers cannot import __main__"):
        Pipeline.load(write_pipeline(tmp_path / "small.toml", text))


def test_a_script_without_a_guard_gets_an_error_and_no_fountain_of_processes(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "small.toml", PIPELINE.replace("tests.faults:Record", "script:Mine"))
    script = tmp_path / "script.py"
    script.write_text(
        "import vpipe\n"
        "class Mine(vpipe.Task):\n    pass\n"
        f"with vpipe.Pipeline.load('small.toml').run({str(short_clip('one', 1))!r}) as run:\n    print(list(run))\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"importing its module starts a run" in done.stderr
    assert b"__name__ == '__main__'" in done.stderr
    script.write_text(script.read_text().replace("with vpipe", "if __name__ == '__main__':\n  with vpipe").replace(
        "    print", "      print"))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert b"'status': 'done'" in done.stdout, done.stderr


def test_a_little_chaos_changes_no_result() -> None:
    line = [sys.executable, str(ROOT / "scripts" / "chaos"), "--kills", "5", "--files", "6", "--seed", "3", "--json"]
    done = subprocess.run(line, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["verdict"] == "equal"
    assert told["blows"] == 5

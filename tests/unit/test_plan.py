"""A pipeline file and a machine make a plan; nothing is started."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.engine import PIPELINE, write_pipeline
from tests.models import write_mean
from vpipe import Pipeline
from vpipe.errors import ConfigError, ModelError
from vpipe.host import Host
from vpipe.plan import Plan

HOST = Host(cores=6, cpu="A CPU", memory_bytes=1 << 34)


def plan(tmp_path: Path, text: str = PIPELINE, **overrides: Any) -> Plan:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return Pipeline.load(write_pipeline(tmp_path / "small.toml", text), dotted).plan(HOST)


def test_auto_values_follow_the_cores_of_the_machine(tmp_path: Path) -> None:
    found = plan(tmp_path, decode__workers="auto", branches__0__infer__requests="auto")
    assert found.decode_workers == 6
    infer = found.branches[0].infer
    assert (infer.streams, infer.threads, infer.requests, infer.precision) == (6, 6, 7, "f32")
    assert found.branches[0].frame_slots == 3  # of four frames each
    assert found.branches[0].batch_slots == 10


def test_given_values_are_kept(tmp_path: Path) -> None:
    found = plan(tmp_path, decode__workers=3, decode__slots=5, branches__0__batch__slots=4,
                 branches__0__infer__streams=1, branches__0__infer__threads=2)  # fmt: skip
    branch = found.branches[0]
    assert (found.decode_workers, branch.frame_slots, branch.batch_slots) == (3, 5, 4)
    assert (branch.infer.streams, branch.infer.threads, branch.infer.requests) == (1, 2, 2)


def test_rings_hold_the_view_its_companions_and_the_models_outputs(tmp_path: Path) -> None:
    branch = plan(tmp_path).branches[0]
    assert [(f.name, f.shape) for f in branch.frame_layout.fields] == [("view", (32, 32, 3)), ("histogram", (256,))]
    assert [f.name for f in branch.tensor_layout.fields] == ["input", "histogram"]
    assert [f.name for f in branch.result_layout.fields] == ["output", "histogram"]
    assert branch.frame_layout.capacity == 4
    assert plan(tmp_path, source__sample="2/s").branches[0].frame_layout.capacity == 1
    assert branch.tensor_layout.capacity == branch.result_layout.capacity == 4


def test_the_memory_of_all_rings_is_added_up(tmp_path: Path) -> None:
    found = plan(tmp_path)
    branch = found.branches[0]
    frames = 2 * branch.frame_slots * branch.frame_layout.slot_bytes
    batches = branch.batch_slots * (branch.tensor_layout.slot_bytes + branch.result_layout.slot_bytes)
    assert found.ring_bytes == frames + batches


def test_the_plan_is_told_in_lines(tmp_path: Path) -> None:
    told = "\n".join(plan(tmp_path).lines())
    for part in ("pipeline small on 6 cores of A CPU", "2 workers", "view 32x32x3", "4 frames or 10 ms", "null on CPU",
                 "tests.faults:Record", "MiB", "rows.jsonl", "every"):  # fmt: skip
        assert part in told


def test_a_plan_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan(tmp_path).decode_workers = 7  # type: ignore[misc]


def test_a_view_that_does_not_fit_the_model_is_told_with_both_shapes(tmp_path: Path) -> None:
    manifest = write_mean(tmp_path / "model", (3, 8, 8))
    with pytest.raises(ConfigError, match=r"branches\[0\]\.view") as error:
        plan(tmp_path, PIPELINE.replace('"null"', f'"{manifest}"'))
    assert "32" in str(error.value)


def test_a_model_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere/model\.toml"):
        plan(tmp_path, branches__0__infer__model="nowhere/model.toml")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("nowhere.at_all:Task", "cannot be imported: ModuleNotFoundError"),
        ("tests.faults:Nobody", "cannot be imported: AttributeError"),
        ("tests.engine:until", "is not a subclass of vpipe.Task"),
    ],
)
def test_a_task_that_cannot_be_had_is_told_by_its_path(task: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"task {task}: {message}"):
        plan(tmp_path, branches__0__postprocess__task=task)


def test_a_task_module_that_raises_is_told_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_task_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="broken_task_module:Task: cannot be imported: ZeroDivisionError"):
        plan(tmp_path, branches__0__postprocess__task="broken_task_module:Task")


def test_an_override_of_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for place in ("branches.7.name", "branches.x.name", "name.deeper"):
        with pytest.raises(ConfigError, match=f"override {place}: the pipeline has no such place"):
            Pipeline.load(write_pipeline(tmp_path / "small.toml"), {place: 1})

"""A bad value in a pipeline file is told by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine import PIPELINE, write_pipeline
from vpipe import Pipeline
from vpipe.config import load_pipeline
from vpipe.errors import ConfigError


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("source.sample", "often", "source.sample: 'often' is not a sampling: use every, keyframes, N/s"),
        ("source.sample", "0/s", "source.sample: '0/s' takes no frame at all"),
        ("source.sample", "n=0", "source.sample: 'n=0' takes no frame at all"),
        ("decode.workers", 0, "decode.workers"),
        ("decode.slots", 1, "decode.slots"),
        ("decode.deadline_s", -1, "decode.deadline_s"),
        ("decode.skip_loop_filter", "some", "decode.skip_loop_filter"),
        ("decode.wrokers", 2, "decode.wrokers: Extra inputs are not permitted"),
        ("branches.0.name", "No Good", "branches[0].name"),
        ("branches.0.view.kind", "crop", "branches[0].view.kind"),
        ("branches.0.view.pair", True, "branches[0].view: pair is for fragments views only"),
        ("branches.0.view.width", None, "branches[0].view: width and height are given together, or neither"),
        ("branches.0.batch.max_size", 1000, "branches[0].batch.max_size"),
        ("branches.0.batch.max_wait_ms", "soon", "branches[0].batch.max_wait_ms"),
        ("branches.0.infer.precision", "f8", "branches[0].infer.precision"),
        ("branches.0.postprocess.task", "no colon", "branches[0].postprocess.task: 'no colon' is not of the form"),
        ("run.tries", 0, "run.tries"),
        ("run.hang_s", 0.5, "run.hang_s: Input should be greater than or equal to 2"),
        ("sinks.0.path", "../out.jsonl", "sinks[0].path"),
        ("sinks.0.kind", "csv", "sinks[0].kind"),
        ("name", "", "name"),
    ],
)
def test_a_bad_value_is_told_by_its_path_and_itself(place: str, value: Any, message: str, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "small.toml")
    with pytest.raises(ConfigError) as error:
        Pipeline.load(path, {place: value})
    assert str(error.value).startswith(f"{path}: {message}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        assert repr(value) in str(error.value)


def test_branches_need_names_of_their_own(tmp_path: Path) -> None:
    table = PIPELINE[PIPELINE.index("[[branches]]") : PIPELINE.index("[[sinks]]")]
    with pytest.raises(ConfigError, match="branch names must differ: view, view"):
        load_pipeline(write_pipeline(tmp_path / "small.toml", PIPELINE.replace(table, table + table)))


def test_a_file_that_is_not_there_or_not_toml_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load_pipeline(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file"):
        load_pipeline(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.toml: not a TOML file"):
        load_pipeline(tmp_path / "binary.toml")


def test_further_findings_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="; and 1 more"):
        Pipeline.load(write_pipeline(tmp_path / "small.toml"), {"run.tries": 0, "run.drain_s": -1})


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found = load_pipeline(write_pipeline(tmp_path / "small.toml", tries=7))
    assert found.run.tries == 7
    assert found.branches[0].batch.max_size == 4
    assert found.source.sample == "every"


@pytest.mark.parametrize("value", ["nonref", "all"])
def test_pictures_whose_own_pixels_are_viewed_are_decoded_in_full(value: str) -> None:
    for pipeline in ("score", str(Path(__file__).parents[2] / "samples" / "score-and-mask.toml")):
        with pytest.raises(ConfigError, match=f"decode.skip_loop_filter: '{value}', but branches.* own pixels"):
            Pipeline.load(pipeline, {"decode.skip_loop_filter": value})

"""A recurrent network in whole runs: its memory follows each segment, whoever decodes it and whatever else goes on."""

from pathlib import Path

import numpy as np

from tests import networks
from tests.engine import assert_equal, run_all, short_clip

PIPELINE = """
name = "matting"
[[branches]]
name = "mask"
[branches.view]
kind = "resize"
width = 64
height = 48
[branches.infer]
model = "{model}"
requests = {requests}
streams = 2
threads = 2
"""


def write(folder: Path, model: Path, requests: int) -> Path:
    path = folder / f"matting-{requests}.toml"
    path.write_text(PIPELINE.format(model=model, requests=requests))
    return path


def test_memory_does_not_depend_on_workers_and_requests(tmp_path: Path) -> None:
    model = networks.write_matting(tmp_path / "model", height=48, width=64)
    clips = [short_clip("recurrent"), short_clip("recurrent", tone=3)]
    one = run_all(write(tmp_path, model, 1), clips, tmp_path / "one", decode__workers=1)
    many = run_all(write(tmp_path, model, 6), clips, tmp_path / "many", decode__workers=2)
    assert_equal(many, one)
    for row, columns in one.values():
        assert row["frames"]["taken"] == 50
        assert columns is not None
        assert columns["mask"].shape == (50, 48, 64)
        assert not np.array_equal(columns["mask"][0], columns["mask"][1])

"""A recurrent model remembers each stream by itself, whatever else is computed meanwhile."""

import json
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import networks
from tests.models import write_manifest
from tests.unit.test_engine import bound, noise, wait
from vpipe.config import parse_pipeline
from vpipe.engine import Manifest, Setup, open_engine
from vpipe.engine.states import KEPT, States
from vpipe.errors import ModelError
from vpipe.plan import resolve

HEIGHT, WIDTH = 48, 64
FRAMES = 6


@pytest.fixture(scope="module")
def matting(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.load(networks.write_matting(tmp_path_factory.mktemp("matting"), height=HEIGHT, width=WIDTH))


@pytest.fixture(scope="module")
def videos() -> dict[Hashable, np.ndarray]:
    return {key: noise((FRAMES, HEIGHT, WIDTH, 3), seed) for seed, key in enumerate(["a", (2, 7), 5])}


@pytest.fixture(scope="module")
def alone(matting: Manifest, videos: dict[Hashable, np.ndarray]) -> dict[Hashable, list[bytes]]:
    """What each video gives in an engine of its own, frame after frame."""
    return {
        key: masks_of(matting, [(None, frame) for frame in frames], requests=1)[None] for key, frames in videos.items()
    }


def masks_of(
    manifest: Manifest, frames: Sequence[tuple[Hashable, np.ndarray]], **options: Any
) -> dict[Hashable, list[bytes]]:
    """Give frames of (stream, picture) to an engine as fast as it takes them; masks by stream, in its order."""
    engine = open_engine(manifest, Setup(**options))
    try:
        tensors, results = bound(engine, manifest, 1, len(frames))
        done = 0
        for slot, (key, frame) in enumerate(frames):
            tensors[slot]["src"][0] = frame
            while not engine.idle:
                done += len(wait(engine))
            engine.submit(slot, slot, 1, None if key is None else [key])
        assert not any(completion.error for completion in wait(engine, len(frames) - done))
        found: dict[Hashable, list[bytes]] = {}
        for (key, _), result in zip(frames, results, strict=True):
            found.setdefault(key, []).append(result["mask"].tobytes())
        return found
    finally:
        engine.close()


def test_matting_network_runs_by_its_manifest_alone(matting: Manifest) -> None:
    """NCHW inside, NHWC outside, any size made one, a constant folded in, an output cut off, four memories."""
    assert [field.name for field in matting.input_fields] == ["src"]
    assert [(field.name, field.shape) for field in matting.output_fields] == [("mask", (HEIGHT, WIDTH))]
    engine: Any = open_engine(matting)
    compiled = engine._compiled
    engine.close()
    assert {port.get_any_name(): tuple(port.shape) for port in compiled.inputs} == {
        "src": (1, HEIGHT, WIDTH, 3),
        **{f"r{i}i": (1, c, HEIGHT >> i, WIDTH >> i) for i, c in enumerate(networks.MEMORY, 1)},
    }
    assert {name for port in compiled.outputs for name in port.get_names()} >= {"mask", "r1o", "r2o", "r3o", "r4o"}
    assert len(compiled.outputs) == 5


def test_memory_of_a_stream_decides_its_next_mask(matting: Manifest, videos: dict[Hashable, np.ndarray]) -> None:
    frame = videos["a"][0]
    first, second = masks_of(matting, [("a", frame), ("a", frame)])["a"]
    fresh = masks_of(matting, [("a", frame), ("b", frame)])["b"][0]
    assert first != second
    assert first == fresh


@pytest.mark.parametrize("options", [{"requests": 1}, {"requests": 4, "streams": 2, "threads": 2}, {"requests": 12}])
def test_interleaved_streams_give_what_each_gives_alone(
    matting: Manifest,
    videos: dict[Hashable, np.ndarray],
    alone: dict[Hashable, list[bytes]],
    options: dict[str, int],
) -> None:
    turns = [(key, frames[i]) for i in range(FRAMES) for key, frames in videos.items()]
    assert masks_of(matting, turns, **options) == alone
    bunches = [(key, frame) for key, frames in videos.items() for frame in frames]
    assert masks_of(matting, bunches, **options) == alone
    assert len({mask for masks in alone.values() for mask in masks}) == 3 * FRAMES


def test_other_memory_starts_where_a_key_is_new(matting: Manifest, videos: dict[Hashable, np.ndarray]) -> None:
    """A retry of a segment, or a new epoch, is another key: nothing of the first try is left."""
    frames = videos[5]
    again = masks_of(matting, [((5, attempt), frame) for attempt in (1, 2) for frame in frames])
    assert again[5, 1] == again[5, 2]


def test_engine_closes_while_frames_wait_for_one_another(matting: Manifest) -> None:
    engine = open_engine(matting, Setup(requests=8))
    bound(engine, matting, 1, 8)
    for slot in range(8):
        engine.submit(slot, slot, 1, ["one"])
    assert engine.idle == 0
    engine.close()


def test_failed_frame_leaves_the_memory_as_it_was() -> None:
    states = States([(1, 2)], flights=2)
    assert states.board(0, "a")
    before, own = states.memory(0)
    own[0][:] = 7
    assert states.land(0, good=False) is None
    states.board(1, "a")
    assert states.memory(1)[0] is before


def test_memories_used_last_are_kept_and_those_in_use_always() -> None:
    states = States([(1,)], flights=2)
    states.board(0, "in use")
    states.memory(0)[0][0][:] = 3
    for number in range(2 * KEPT):
        states.board(1, number)
        states.memory(1)[1][0][:] = number
        states.land(1, good=True)
    for number in (2 * KEPT - 1, KEPT + 1):
        states.board(1, number)
        assert states.memory(1)[0][0][0] == number
        states.land(1, good=True)
    states.board(1, 0)
    assert states.memory(1)[0][0][0] == 0, "zeros: it was forgotten"
    assert states.memory(0)[0][0][0] == 3
    states.clear()


def test_memory_may_be_an_output_as_well(matting: Manifest, tmp_path: Path, videos: dict[Hashable, np.ndarray]) -> None:
    """As where the last mask is one more input of the next frame."""
    outputs = '{ "name" = "again", "tensor" = "r1o", "shape" = [-1, 16, 24, 32] }]\nstates'
    text = matting.path.read_text().replace("]\nstates", f", {outputs}", 1)
    for name in matting.sha256:
        (tmp_path / name).write_bytes((matting.path.parent / name).read_bytes())
    (tmp_path / "model.toml").write_text(text)
    manifest = Manifest.load(tmp_path / "model.toml")
    frames = [("a", frame) for frame in videos["a"]]
    found, expected = ([np.frombuffer(m, "f4") for m in masks_of(each, frames)["a"]] for each in (manifest, matting))
    np.testing.assert_allclose(found, expected, atol=1e-5)  # another graph is fused in another way


def test_batch_of_a_recurrent_model_is_one_frame(matting: Manifest) -> None:
    with pytest.raises(ModelError, match=r"matting is recurrent .* set batch\.max_size to 1"):
        open_engine(matting, Setup(batch=2))


def test_plan_gives_a_recurrent_model_one_frame_at_a_time(matting: Manifest) -> None:
    branch = {
        "name": "mask",
        "view": {"kind": "resize", "width": WIDTH, "height": HEIGHT, "pixel": "rgb"},
        "batch": {"max_size": 16},
        "infer": {"model": str(matting.path)},
    }
    (planned,) = resolve(parse_pipeline({"name": "mask", "branches": [branch]}, "x"), Path()).branches
    assert planned.manifest == matting
    assert planned.batch_size == planned.tensor_layout.capacity == planned.result_layout.capacity == 1


def test_manifest_with_memory_travels_to_a_worker(matting: Manifest) -> None:
    assert Manifest.from_dict(json.loads(json.dumps(matting.to_dict()))) == matting
    assert matting.recurrent


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[-1, 16, 24, 32]", "[-1, 16, 24, 30]", "the state that comes out as r1o|inputs .* do not fit"),
        ("[-1, 16, 24, 32]", "[-1, 12, 24, 32]", r"inputs src .*, r1i \[-1, 12, 24, 32\].* do not fit .*the model has"),
        ('"input" = "r1i"', '"input" = "r2i"', "inputs, states and constants: r2i is given twice"),
        ('"output" = "r1o"', '"output" = "r9o"', "has no input or output r9o; it has fgr, pha, r4o"),
        ('"downsample_ratio"', '"upsample_ratio"', "has no input or output upsample_ratio"),
        ("constants = ", "view = {}\nconstants2 = ", "constants2: Unexpected keyword"),
        (
            '"output" = "r1o", "shape" = [-1,',
            '"output" = "r1o", "shape" = [1,',
            r"states\[0\]: shape: the first size is",
        ),
    ],
)
def test_states_that_do_not_fit_are_refused(
    matting: Manifest, tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = matting.path.read_text()
    assert old in text
    for name in matting.sha256:
        (tmp_path / name).write_bytes((matting.path.parent / name).read_bytes())
    (tmp_path / "model.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError, match=message):
        open_engine(Manifest.load(tmp_path / "model.toml"))


def test_state_that_comes_out_larger_than_it_goes_in_is_refused(tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    frames, memory = (ops.parameter([-1, 4], ov.Type.f32, name=name) for name in ("frames", "memory"))
    total = ops.add(frames, memory)
    longer = ops.concat([memory, total], 1)
    results = []
    for name, node in (("total", total), ("longer", longer)):
        node.output(0).get_tensor().set_names({name})
        results.append(ops.result(node))
    for parameter in (frames, memory):
        parameter.output(0).get_tensor().set_names({parameter.get_friendly_name()})
    ov.save_model(ov.Model(results, [frames, memory], "tiny"), tmp_path / "tiny.xml")
    path = write_manifest(
        tmp_path,
        "tiny.xml",
        inputs=[{"name": "frames", "shape": [-1, 4]}],
        outputs=[{"name": "total", "shape": [-1, 4]}],
        states=[{"input": "memory", "output": "longer", "shape": [-1, 4]}],
    )
    with pytest.raises(ModelError, match=r"the state that comes out as longer has shape \[1,8\].* says \[-1, 4\]"):
        open_engine(Manifest.load(path))

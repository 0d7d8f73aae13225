import gc
import itertools
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from vpipe.engine import Completion, Engine, Manifest, NullEngine, Setup, engine_cost, open_engine
from vpipe.errors import ModelError, ResourceError
from vpipe.layout import Field

DEADLINE_S = 60.0
MEAN = (Field("frames", "|u1", (2, 8, 8)),), (Field("score", "<f4", ()),)

Slots = list[dict[str, np.ndarray]]
Open = Callable[..., Engine]


@pytest.fixture(scope="module")
def mean(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.load(models.write_mean(tmp_path_factory.mktemp("mean")))


@pytest.fixture
def opened() -> Iterator[Open]:
    """`open_engine`, closed at the end."""
    engines: list[Engine] = []

    def open_one(*arguments: Any, **options: Any) -> Engine:
        engines.append(open_engine(*arguments, Setup(**options)))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


def slots(fields: tuple[Field, ...], batch: int, count: int = 3) -> Slots:
    return [{f.name: np.zeros((batch, *f.shape), f.dtype) for f in fields} for _ in range(count)]


def bound(engine: Engine, manifest: Manifest | None, batch: int, count: int = 3) -> tuple[Slots, Slots]:
    inputs, outputs = (manifest.input_fields, manifest.output_fields) if manifest else MEAN
    tensors, results = slots(inputs, batch, count), slots(outputs, batch, count)
    engine.bind(tensors, results)
    return tensors, results


def wait(engine: Engine, count: int = 1) -> list[Completion]:
    found: list[Completion] = []
    end = time.monotonic() + DEADLINE_S
    while len(found) < count:
        engine.watch()
        assert select.select([engine.fileno()], [], [], end - time.monotonic())[0], f"only {found} by the deadline"
        found += engine.completed()
    return found


def run(manifest: Manifest, frames: np.ndarray, batch: int = 0, **options: Any) -> dict[str, np.ndarray]:
    """Return a model's outputs for some frames, all in one batch."""
    engine = open_engine(manifest, Setup(batch or len(frames), **options))
    try:
        tensors, results = bound(engine, manifest, batch or len(frames), 1)
        tensors[0][manifest.inputs[0].name][: len(frames)] = frames
        engine.submit(0, 0, len(frames))
        (completion,) = wait(engine)
        assert completion.error is None, completion.error
        return {name: array[: len(frames)].copy() for name, array in results[0].items()}
    finally:
        engine.close()


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# ---- what every engine keeps to


@pytest.fixture(params=["null", "CPU", "HETERO:CPU"])
def any_engine(request: pytest.FixtureRequest, mean: Manifest, opened: Open) -> Engine:
    """An engine for batches of 4, 2 in flight; HETERO computes whole batches, CPU frame by frame."""
    if request.param == "null":
        return opened(None, requests=2, batch=4)
    return opened(mean, device=request.param, requests=2, batch=4)


def test_completion_names_the_slots_of_its_batch(any_engine: Engine) -> None:
    engine = any_engine
    bound(engine, None, 4)
    engine.submit(2, 1, 3)
    assert wait(engine) == [Completion(2, 1, None)]


def test_idle_counts_batches_in_flight_until_their_completion_is_taken(any_engine: Engine) -> None:
    engine = any_engine
    bound(engine, None, 4)
    assert engine.idle == 2
    engine.submit(0, 0, 4)
    engine.submit(1, 1, 1)
    assert engine.idle == 0
    wait(engine, 2)
    assert engine.idle == 2


def test_descriptor_is_quiet_when_nothing_is_complete(any_engine: Engine) -> None:
    engine = any_engine
    bound(engine, None, 4)
    assert not select.select([engine.fileno()], [], [], 0)[0]
    assert engine.completed() == []
    engine.submit(0, 0, 4)
    wait(engine)
    assert not select.select([engine.fileno()], [], [], 0)[0]


def test_streams_of_frames_may_be_told_to_any_engine(any_engine: Engine) -> None:
    engine = any_engine
    bound(engine, None, 4)
    engine.submit(1, 0, 3, [(7, 0), (7, 0), "another"])
    assert wait(engine) == [Completion(1, 0, None)]


@pytest.mark.parametrize("watched", [0, 1, 2])
def test_batches_come_whether_the_descriptor_tells_of_them_or_not(any_engine: Engine, watched: int) -> None:
    engine = any_engine
    bound(engine, None, 4)
    for slot in range(2):
        engine.submit(slot, slot, 4)
        if slot < watched:
            engine.watch()
    found: list[Completion] = []
    end = time.monotonic() + DEADLINE_S
    while len(found) < 2:
        engine.wait(1000.0 * (end - time.monotonic()))
        found += engine.completed()
    assert found == [Completion(0, 0), Completion(1, 1)]
    assert engine.idle == 2
    engine.wait(0.0)
    assert engine.completed() == []


def test_every_batch_is_completed_once(any_engine: Engine) -> None:
    engine = any_engine
    bound(engine, None, 4)
    found = []
    for number in range(60):
        engine.submit(number % 3, number % 3, number % 4 + 1)
        if not engine.idle:
            found += wait(engine)
    found += wait(engine, 60 - len(found))
    assert sorted(c.tensor_slot for c in found) == sorted(number % 3 for number in range(60))


def test_closing_waits_for_what_is_in_flight_and_gives_everything_back(any_engine: Engine) -> None:
    engine = any_engine
    tensors, results = bound(engine, None, 4)
    engine.submit(0, 0, 4)
    engine.close()
    held = [weakref.ref(array) for slot in [*tensors, *results] for array in slot.values()]
    del tensors, results
    gc.collect()
    assert not any(ref() is not None for ref in held)


def test_null_engine_writes_zeros() -> None:
    engine = NullEngine()
    _, results = bound(engine, None, 4)
    results[1]["score"][:] = 7
    engine.submit(0, 1, 3)
    assert results[1]["score"].tolist() == [0, 0, 0, 7]
    engine.close()


# ---- memory


def test_result_lies_in_the_slot_and_a_changed_tensor_is_seen(mean: Manifest, opened: Open) -> None:
    """No copy on either side: the arrays are the slots' own, and only they are ever touched."""
    engine = opened(mean, batch=4)
    tensors, results = bound(engine, mean, 4)
    for value in (10, 200):
        tensors[1]["frames"][:] = value
        results[2]["score"][:] = -1
        engine.submit(1, 2, 4)
        wait(engine)
        assert results[2]["score"].tolist() == [value] * 4
    assert not results[0]["score"].any()


def test_requests_are_lent_the_slots_own_addresses(mean: Manifest, opened: Open) -> None:
    engine: Any = opened(mean, batch=4)
    tensors, results = bound(engine, mean, 4)
    frames, score = tensors[1]["frames"], results[1]["score"]
    engine.submit(1, 1, 4)
    wait(engine)
    used = next(f for f in engine._flights if f.used).requests
    for i, request in enumerate(used):
        assert request.get_input_tensor(0).data.ctypes.data == frames[i:].ctypes.data
        assert request.get_output_tensor(0).data.ctypes.data == score[i:].ctypes.data


def test_any_tensor_slot_may_go_to_any_result_slot(mean: Manifest, opened: Open) -> None:
    engine = opened(mean, batch=2)
    tensors, results = bound(engine, mean, 2)
    for slot, tensor in enumerate(tensors):
        tensor["frames"][:] = noise((2, 2, 8, 8), slot)
    for tensor_slot, result_slot in itertools.product(range(3), range(3)):
        results[result_slot]["score"][:] = -1
        engine.submit(tensor_slot, result_slot, 2)
        assert wait(engine) == [Completion(tensor_slot, result_slot)]
        alone = run(mean, tensors[tensor_slot]["frames"])["score"]
        assert results[result_slot]["score"].tobytes() == alone.tobytes()


def test_slots_live_as_long_as_the_engine_may_write_to_them(mean: Manifest, opened: Open) -> None:
    engine = opened(mean, batch=2)
    tensors, results = bound(engine, mean, 2)
    alive = [weakref.ref(results[0]["score"]), weakref.ref(tensors[0]["frames"])]
    del tensors, results
    gc.collect()
    assert all(each() is not None for each in alive)
    engine.close()
    gc.collect()
    assert all(each() is None for each in alive)


def test_frames_beyond_the_count_are_not_computed(mean: Manifest, opened: Open) -> None:
    engine = opened(mean, batch=4)
    tensors, results = bound(engine, mean, 4)
    tensors[0]["frames"][:] = 9
    results[0]["score"][:] = -1
    engine.submit(0, 0, 3)
    wait(engine)
    assert results[0]["score"].tolist() == [9, 9, 9, -1]


def test_arrays_that_do_not_fit_the_model_are_refused(mean: Manifest, opened: Open) -> None:
    engine = opened(mean, batch=4)
    wrong = slots((Field("frames", "<f4", (2, 8, 8)),), 4)
    with pytest.raises(ModelError, match=r"frames: <f4\[4, 2, 8, 8\], but tiny needs \|u1\[4, 2, 8, 8\]"):
        engine.bind(wrong, slots(MEAN[1], 4))
    with pytest.raises(ModelError, match="score: none, but"):
        engine.bind(slots(MEAN[0], 4), slots((), 4))


# ---- results


def test_a_frame_has_the_same_score_to_the_last_bit_in_any_batch(tmp_path: Path) -> None:
    manifest = Manifest.load(models.write_convnet(tmp_path, width=16, depth=3))
    frames = noise((6, 2, 224, 224))
    alone = np.concatenate([run(manifest, frame[None])["score"] for frame in frames])
    assert len(set(alone.tolist())) == 6
    for batch, streams, threads in ((6, 1, 1), (8, 2, 2), (16, 1, 2)):
        found = run(manifest, frames, batch=batch, streams=streams, threads=threads)["score"]
        assert found.tobytes() == alone.tobytes()


def test_frames_may_lie_at_any_address(tmp_path: Path) -> None:
    """Of 189 bytes each, so that only the first of a slot is aligned to anything."""
    frames = noise((5, 3, 7, 9))
    found = run(Manifest.load(models.write_mean(tmp_path, (3, 7, 9))), frames, streams=2, threads=2)["score"]
    np.testing.assert_allclose(found, frames.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_mean_and_scale_are_folded_in(tmp_path: Path) -> None:
    path = models.write_channels(tmp_path, layout="NCHW", mean=[10, 20, 30], scale=[1, 2, 4])
    frames = noise((2, 3, 8, 8))
    expected = (frames.mean(axis=(2, 3)) - [10, 20, 30]) / [1, 2, 4]
    np.testing.assert_allclose(run(Manifest.load(path), frames)["means"], expected, rtol=1e-5)


def test_view_rows_first_feeds_a_model_channels_first(tmp_path: Path) -> None:
    shape = {"shape": [-1, 8, 8, 3], "layout": "NHWC", "model_layout": "NCHW"}
    path = models.write_channels(tmp_path, **shape, mean=[5], color="rgb", model_color="bgr")
    frames = noise((2, 8, 8, 3))
    expected = frames.mean(axis=(1, 2))[:, ::-1] - 5
    np.testing.assert_allclose(run(Manifest.load(path), frames)["means"], expected, rtol=1e-5)


@pytest.mark.parametrize("table", [{}, {"layout": "NHW", "model_layout": "NCHW"}], ids=["no layout", "layout"])
def test_grey_view_feeds_a_model_with_one_channel(tmp_path: Path, table: dict[str, Any]) -> None:
    manifest = Manifest.load(models.write_mean(tmp_path, (1, 8, 8)))
    text = manifest.path.read_text().replace("[-1, 1, 8, 8]", "[-1, 8, 8]")
    extra = "".join(f', "{name}" = "{value}"' for name, value in table.items())
    manifest.path.write_text(text.replace('"dtype" = "u8"', '"dtype" = "u8"' + extra))
    frames = noise((3, 8, 8))
    found = run(Manifest.load(manifest.path), frames)["score"]
    np.testing.assert_allclose(found, frames.mean(axis=(1, 2)), rtol=1e-5)


def test_onnx_model_runs(tmp_path: Path) -> None:
    frames = noise((3, 3, 8, 8))
    found = run(Manifest.load(models.write_onnx(tmp_path)), frames)["score"]
    np.testing.assert_allclose(found, frames.mean(axis=(1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("device", ["AUTO:CPU", "HETERO:CPU", "MULTI:CPU", "AUTO"])
def test_composite_device_computes_the_same(mean: Manifest, device: str) -> None:
    frames = noise((3, 2, 8, 8))
    found = run(mean, frames, device=device, batch=4, streams=1, threads=1)["score"]
    np.testing.assert_allclose(found, frames.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_failing_batch_says_why_and_others_go_on(tmp_path: Path, opened: Open) -> None:
    manifest = Manifest.load(models.write_picky(tmp_path))
    engine = opened(manifest, batch=4, requests=1)
    tensors, results = bound(engine, manifest, 4)
    for value, good in ((8, True), (7, False), (16, True)):
        tensors[0]["frames"][:] = 8
        tensors[0]["frames"][1] = value
        engine.submit(0, 0, 4)
        (completion,) = wait(engine)
        assert (completion.error is None) == good, completion
        if good:
            assert results[0]["score"].tolist() == [1, 1, 1, 1]
        else:
            assert "\n" not in str(completion.error)
            assert "shape" in str(completion.error).lower()


# ---- settings


def test_streams_threads_and_precision_are_the_plans(mean: Manifest, opened: Open) -> None:
    engine: Any = opened(mean, streams=2, threads=2, precision="f32")
    compiled = engine._compiled
    assert compiled.get_property("NUM_STREAMS") == 2
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 2
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_precision_is_the_devices_own_choice_where_it_is_auto(mean: Manifest) -> None:
    assert run(mean, noise((1, 2, 8, 8)), precision="auto")["score"].shape == (1,)


def test_precision_that_the_device_has_not_is_refused(mean: Manifest) -> None:
    from vpipe.engine.openvino import ov

    if "FP16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU computes f16")
    with pytest.raises(ResourceError, match=r"infer\.precision: f16 is not to be had on CPU .*use auto or f32"):
        open_engine(mean, Setup(precision="f16"))


@pytest.mark.parametrize("device", ["TPU", "TPU.1", "HETERO:TPU,CPU"])
def test_unknown_device_is_refused_with_those_that_are_there(mean: Manifest, device: str) -> None:
    with pytest.raises(ResourceError, match=rf"infer\.device: {device} is not to be had .*available here: .*CPU"):
        open_engine(mean, Setup(device=device))


# ---- models that do not fit


def rewritten(manifest: Manifest, old: str, new: str) -> Manifest:
    text = manifest.path.read_text()
    assert old in text
    manifest.path.write_text(text.replace(old, new))
    return Manifest.load(manifest.path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name" = "frames"', '"name" = "pictures"', r"has no input or output pictures; it has frames"),
        ('"name" = "score"', '"name" = "mark"', r"has no input or output mark; it has score"),
        (
            "[-1, 2, 8, 8]",
            "[-1, 3, 8, 8]",
            r"inputs frames \[-1, 3, 8, 8\] do not fit tiny\.xml: the model has \[\?,2,8,8\]",
        ),
        ('"shape" = [-1] ', '"shape" = [-1, 4] ', r"output score of tiny\.xml has shape \[1\] for 1 frames"),
        ("outputs", 'licence2 = "x"\noutputs', "licence2"),
    ],
)
def test_manifest_that_does_not_fit_its_model_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    manifest = Manifest.load(models.write_mean(tmp_path))
    with pytest.raises(ModelError, match=message):
        open_engine(rewritten(manifest, old, new))


def test_rows_and_columns_are_the_manifests_where_the_model_can_have_any(tmp_path: Path) -> None:
    manifest = Manifest.load(models.write_channels(tmp_path, layout="NCHW"))
    larger = rewritten(manifest, "[-1, 3, 8, 8]", "[-1, 3, 16, 4]")
    frames = noise((2, 3, 16, 4))
    np.testing.assert_allclose(run(larger, frames)["means"], frames.mean(axis=(2, 3)), rtol=1e-5)
    with pytest.raises(ModelError, match=r"the model has \[\?,3,8,8\]"):
        open_engine(rewritten(larger, "[-1, 3, 16, 4]", "[-1, 4, 16, 4]"))


def test_model_with_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    manifest = Manifest.load(models.write_mean(tmp_path))
    second = '"shape" = [-1, 2, 8, 8] }, { "name" = "more", "shape" = [-1] }]'
    with pytest.raises(ModelError, match=r"inputs are frames, more, but tiny\.xml has 1"):
        open_engine(rewritten(manifest, '"shape" = [-1, 2, 8, 8] }]', second))


@pytest.mark.parametrize("name", ["tiny.xml", "tiny.bin"])
def test_damaged_model_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    manifest = Manifest.load(models.write_convnet(tmp_path, width=8, depth=1))
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=rf"{name}: sha256 is [0-9a-f]+, but model.toml expects"):
        open_engine(manifest)


def test_file_that_is_no_model_is_refused_even_if_its_hash_is_right(tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"this is text")
    inputs, outputs = [{"name": "frames", "shape": [-1, 3]}], [{"name": "score", "shape": [-1]}]
    path = models.write_manifest(tmp_path, "tiny.onnx", inputs=inputs, outputs=outputs)
    with pytest.raises(ModelError, match=r"tiny\.onnx: cannot be read as a model"):
        open_engine(Manifest.load(path))


# ---- the cache


def test_compiled_model_is_kept_and_used_again(mean: Manifest, tmp_path: Path) -> None:
    frames = noise((2, 2, 8, 8))
    first = run(mean, frames, cache_dir=tmp_path)
    (blob,) = tmp_path.iterdir()
    written = blob.stat().st_mtime_ns
    assert run(mean, frames, cache_dir=tmp_path)["score"].tobytes() == first["score"].tobytes()
    assert [p.stat().st_mtime_ns for p in tmp_path.iterdir()] == [written]


@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_damaged_cache_costs_time_only(mean: Manifest, tmp_path: Path, damage: str) -> None:
    frames = noise((2, 2, 8, 8))
    first = run(mean, frames, cache_dir=tmp_path)
    (blob,) = tmp_path.iterdir()
    data = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "noise": os.urandom(len(data))}[damage])
    assert run(mean, frames, cache_dir=tmp_path)["score"].tobytes() == first["score"].tobytes()


def test_cache_that_cannot_be_had_costs_time_only(mean: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(mean, noise((1, 2, 8, 8)), cache_dir=tmp_path / "file" / "cache")["score"].shape == (1,)


# ---- life and cost


def test_process_that_forgets_to_close_ends_all_the_same(mean: Manifest) -> None:
    code = f"""
import numpy as np, pathlib
from vpipe.engine import Manifest, Setup, open_engine
engine = open_engine(Manifest.load(pathlib.Path({str(mean.path)!r})), Setup(4, streams=2, threads=2))
engine.bind([{{"frames": np.zeros((4, 2, 8, 8), "u1")}}], [{{"score": np.zeros(4, "f4")}} for _ in range(2)])
engine.submit(0, 0, 4)
engine.submit(0, 1, 4)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_engines_can_be_opened_and_closed_again_and_again(mean: Manifest) -> None:
    threads = len(os.listdir("/proc/self/task"))
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        engine = open_engine(mean, Setup(4, streams=2, threads=2))
        bound(engine, mean, 4)
        engine.submit(0, 0, 4)
        if number % 2:
            wait(engine)
        engine.close()
        engine.close()
        del engine
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert len(os.listdir("/proc/self/task")) <= threads + 4


def test_opening_a_model_loads_neither_converter_nor_telemetry(mean: Manifest) -> None:
    code = (
        "import pathlib, sys; from vpipe.engine import *;"
        f"open_engine(Manifest.load(pathlib.Path({str(mean.path)!r}))).close();"
        "assert not [m for m in sys.modules if m.startswith(('openvino.tools', 'openvino_telemetry'))];"
        "from openvino.tools.ovc import convert_model"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE_S)


def test_cost_counts_frames_and_cpu_time(mean: Manifest) -> None:
    cost = engine_cost(mean, Setup(4), seconds=0.1)
    assert cost.frames % 4 == 0
    assert cost.frames > 0
    assert cost.fps > 0
    assert cost.cpu_ms > 0

"""One network in its stock framework and in OpenVINO: same weights, same input, same cores, in turns.

Run by `scripts/bench reference` in an environment of its own: `python frameworks.py NET CACHE SECONDS ROUNDS`, with
NET one of score, portrait, deeplab, text. Prints one JSON object. Measured are one frame at a time, as a plain loop
does it, and each framework at its best: PyTorch and ONNX Runtime by batches of 8, MediaPipe by a process a core,
OpenVINO by streams.

The portrait net needs `portrait.xml` in CACHE, and MEDIAPIPE_PYTHON in the environment: an interpreter with MediaPipe.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

CORES = len(os.sched_getaffinity(0))
BATCH = 8
Step = Callable[[], int]
"""Does some frames and returns how many."""


def rate(step: Step, seconds: float) -> float:
    """Return frames a second."""
    step()
    frames, began = 0, time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        frames += step()
    return frames / (now - began)


def in_torch(module: Any, example: Any) -> dict[str, Step]:
    """Return PyTorch's ways to run a network, none of which keeps gradients."""
    import torch

    torch.set_num_threads(CORES)
    many = example.expand(BATCH, *example.shape[1:]).contiguous()

    def run(frames: Any) -> int:
        with torch.inference_mode():
            module(frames)
        return len(frames)

    return {"stock": lambda: run(example), "stock at its best": lambda: run(many)}


def in_onnx_runtime(path: Path, example: NDArray[Any]) -> dict[str, Step]:
    """Return ONNX Runtime's ways."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    many = np.repeat(example, BATCH, 0)

    def run(frames: NDArray[Any]) -> int:
        session.run(None, {name: frames})
        return len(frames)

    return {"stock": lambda: run(example), "stock at its best": lambda: run(many)}


def in_mediapipe(python: str, example: NDArray[Any]) -> dict[str, Step]:
    """Return MediaPipe's ways; it lives in processes of its own, since it needs older libraries."""
    command = [python, str(Path(__file__).with_name("mediapipe_frames.py")), *map(str, example.shape[1:3])]
    quiet = {**os.environ, "GLOG_minloglevel": "3"}
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=quiet)
        for _ in range(CORES)
    ]

    def step(chosen: list[Any]) -> int:
        for child in chosen:
            child.stdin.write(b"\n")
            child.stdin.flush()
        return sum(int(child.stdout.readline()) for child in chosen)

    return {"stock": lambda: step(children[:1]), "stock at its best": lambda: step(children)}


def in_openvino(model: ov.Model, example: NDArray[Any], name: str) -> dict[str, Step]:
    """Return OpenVINO's ways: one frame at a time on all cores, and a stream a core."""
    core = ov.Core()
    model.reshape({0: list(example.shape)})
    common = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": CORES, "ENABLE_CPU_PINNING": False}
    alone = core.compile_model(model, "CPU", {**common, "NUM_STREAMS": "1"}).create_infer_request()
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", {**common, "NUM_STREAMS": str(CORES)}), CORES + 1)

    def one() -> int:
        alone.infer({0: example}, share_inputs=True)
        return 1

    def several() -> int:
        for _ in range(4 * CORES):
            queue.start_async({0: example}, share_inputs=True)
        queue.wait_all()
        return 4 * CORES

    return {name: one, f"{name} at its best": several}


def quantized(model: ov.Model, examples: list[NDArray[Any]]) -> ov.Model:
    """Return the network in 8-bit integers; for speed alone, so the examples need not mean anything."""
    os.environ["NNCF_CI"] = "1"
    import nncf

    return nncf.quantize(model, nncf.Dataset(examples), subset_size=len(examples))


def build(net: str, cache: Path) -> tuple[dict[str, Step], str, str]:
    """Return all ways to run a network, the stock framework's name, and a note."""
    if net == "text":
        from nets import text_detector

        path = text_detector(cache)
        example: NDArray[Any] = np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
        stock, framework, note = in_onnx_runtime(path, example), "ONNX Runtime", path.name
        model = ov.Core().read_model(path)
        model.reshape({0: [1, 3, 640, 640]})
    elif net == "portrait":
        model = ov.Core().read_model(cache / "portrait.xml")
        example = np.random.default_rng(0).integers(0, 255, model.inputs[0].shape).astype(np.uint8)
        stock, framework = in_mediapipe(os.environ["MEDIAPIPE_PYTHON"], example), "MediaPipe"
        note = "256x144"
    else:
        import nets

        module, tensor, note = nets.score_net() if net == "score" else nets.deeplab()
        stock, framework, example = in_torch(module, tensor), "PyTorch", tensor.numpy()
        model = ov.convert_model(module, example_input=tensor, input=[tuple(tensor.shape)])
    ways = {**stock, **in_openvino(model, example, "OpenVINO")}
    rng = np.random.default_rng(1)
    examples = [
        rng.integers(0, 255, example.shape).astype(example.dtype)
        if example.dtype == np.uint8
        else rng.random(example.shape, np.float32)
        for _ in range(8)
    ]
    return {**ways, **in_openvino(quantized(model, examples), example, "OpenVINO INT8")}, framework, note


def main(net: str, cache: str, seconds: str, rounds: str) -> None:
    """Measure and print."""
    ways, framework, note = build(net, Path(cache))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(int(rounds)):
        for name, step in ways.items():
            rates[name].append(rate(step, float(seconds)))
    result = {
        "net": net,
        "framework": framework,
        "note": note,
        "fps": {name: round(statistics.median(found), 2) for name, found in rates.items()},
        # Of each round's own pairs: the machine may be slower in one round than in another.
        "over_stock": {
            name: round(statistics.median(a / b for a, b in zip(found, rates[stock], strict=True)), 3)
            for name, found in rates.items()
            for stock in ["stock at its best" if name.endswith("at its best") else "stock"]
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The pages and charts of scripts/bench reference, from figures of its own shape; what it measures is no test's."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "reference"

MACHINE = {
    "machine": {
        "cores": 2,
        "cpu": "a processor",
        "versions": {"openvino": "1", "av": "2"},
        "commit": "abc1234",
        "when": "today",
        "load_before": [0.1, 0.2, 0.25],
    },
    "quick": True,
}
RUN: dict[str, Any] = {
    "vpipe": {"seconds": 3.5},
    "naive": {"seconds": 7.0},
    "speedup_over_naive": 2.0,
    "efficiency": 0.94,
    "overhead": 0.0156,
    "overhead_with_task": 0.0112,
}
RATES = {f"{way}{best}": 10.0 for way in ("stock", "OpenVINO", "OpenVINO INT8") for best in ("", " at its best")}


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reference_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_page_shows_every_part_that_was_measured_and_no_other() -> None:
    page = module("page").page
    network = {"framework": "PyTorch", "note": "random weights", "fps": RATES, "over_stock": dict.fromkeys(RATES, 4.2)}
    cores = {
        "cores": [{"cores": 1, "fps": 100.0}],
        "workers": [{"workers": 1, "over_own": 0.9}],
        "numa_nodes": 1,
        "planes_over_interleaved": 1.01,
        "pinned_over_free": 0.98,
    }
    batches = {"model": "score 1", "curves": {"1 stream": [{"batch": 1, "fps": 10.0, "latency_ms": 2.5}]}}
    engine = {
        "null": {"vpipe": {"fps": 11843.0}},
        "startup": {"vpipe_s": 1.5, "naive_s": 1.25},
        "own": {
            f"{name}_{length}_{what}": 0.0156
            for name in ("score", "mask")
            for length in ("24s", "120s")
            for what in ("share", "ms_per_frame")
        },
        "sampled": {"vpipe_s": 10.0, "ffmpeg_s": 20.0, "ratio": 0.5},
        "trace": {"score_cpu_ratio": 1.01, "null_cpu_ratio": 1.02},
    }
    models = {
        "benchmark": [{"model": "score", "batch": 16, "fps": 900.0, "app_fps": 890.0, "ratio": 1.011}],
        "quantize": {
            "of": "score 1", "unit": "points", "limit": 0.5, "mean": 0.18, "worst": 0.9, "layers": 15, "frames": 75,
            "in_8_bits": 5, "over_full": 1.4,
        },
    }  # fmt: skip
    figures = {
        "engine": {**engine, **MACHINE},
        "models": {**models, **MACHINE},
        "video": {"score every": RUN, **MACHINE},
        "frameworks": {"deeplab": network, **MACHINE},
        "batches": {**batches, **MACHINE},
        "cores": {**cores, **MACHINE},
    }
    text = page(figures)
    assert "| score every | naive 7.00 s | 3.50 s | **2.00 x** | 0.94 | 1.6% |" in text
    assert "| deeplab (random weights) | one at a time | PyTorch 10.0 | 10.0 (**4.20 x**) | 10.0 (**4.20 x**) |" in text
    assert "| 1 stream | 1 | 10.0 | 2.50 |" in text
    assert "11,843 |" in text
    assert "scoring every frame of 120 s of 1080p30 | 1.6%, 0.016 ms a frame |" in text
    assert "masks of every frame of 24 s of 1080p30 | 1.6%, 0.016 ms a frame |" in text
    assert "| CPU time with `--trace`, score on every frame; side by side | 1.010 x |" in text
    assert "| score | 16 | 900.0 | 890.0 | **1.011** |" in text
    assert "5 of 15 layers, **1.40 x** the rate of full precision, off by 0.18 points" in text
    assert "One NUMA node" in text
    assert text.count("A quick try, not a result") == 6
    assert "NUMA" not in page({"video": figures["video"]})


@pytest.mark.parametrize("logarithmic", [False, True])
def test_chart_has_every_line_and_every_stop(logarithmic: bool) -> None:
    lines = {"one": [(1, 10.0), (2, 19.0), (4, 36.0)], "two & more": [(1, 11.0), (2, 20.0), (4, 36.5)]}
    svg = module("plot").chart("Rates", "batch", "frames a second", lines, logarithmic=logarithmic)
    assert svg.startswith("<svg")
    assert svg.count("<circle") == 6
    for words in ("Rates", "one", "two &amp; more", "frames a second", "0", "10", "40"):
        assert f">{words}<" in svg

"""The page of results: figures.json as tables, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Figures = dict[str, Any]


def page(figures: Figures) -> str:
    """Return docs/results/README.md."""
    lines = [
        "# Results",
        "",
        "Written by `scripts/bench reference`; run it to have the same of your machine. Raw figures are in",
        "[figures.json](figures.json), what was tried and kept or not in [log.md](log.md); live streams and what",
        "may break them are in [live.md](live.md).",
    ]
    for name, write in WRITERS.items():
        if name in figures:
            lines += ["", *write(figures[name]), "", *_machine(figures[name])]
    return "\n".join(lines) + "\n"


def _machine(part: Figures) -> Iterator[str]:
    about = part["machine"]
    load = ", ".join(f"{each:g}" for each in about["load_before"])
    turns = f"; turns of what is compared: {part['rounds']}" if "rounds" in part else ""
    quick = " **A quick try, not a result.**" if part["quick"] else ""
    yield (
        f"<sub>{about['cores']} cores of {about['cpu']}, OpenVINO {about['versions']['openvino']}, "
        f"PyAV {about['versions']['av']}, commit {about['commit']}, {about['when']}; "
        f"load averages then {load}{turns}.{quick}</sub>"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    head = list(head)
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(each) for each in row)} |"


def _video(part: Figures) -> Iterator[str]:
    yield from (
        "## A video of 720 frames, 1080p: the naive loop and vpipe",
        "",
        "The naive loop decodes with OpenCV, makes the view and calls the model synchronously, frame by frame. Ratios",
        "are within a turn, of more turns their medians; start-up is not in them.",
        "",
    )
    runs = {name: found for name, found in part.items() if isinstance(found, dict) and "vpipe" in found}
    rows = [
        (
            name,
            f"{other} {found[other]['seconds']:.2f} s",
            f"{found['vpipe']['seconds']:.2f} s",
            f"**{found[f'speedup_over_{other}']:.2f} x**",
            f"{found['efficiency']:.2f}",
            f"{found['overhead']:.1%}",
            f"{found['overhead_with_task']:.1%}",
        )
        for name, found in runs.items()
        for other in (each.removeprefix("speedup_over_") for each in found if each.startswith("speedup_over_"))
    ]
    yield from _table(
        ("pipeline, sample", "before", "vpipe", "vpipe is", "of its ceiling", "overhead", "of it vpipe's own"), rows
    )
    yield from (
        "",
        "The ceiling is what decode, view and model take by themselves with all cores busy; the overhead is the share",
        "of the run's CPU time outside of them: the product's task, and vpipe's own code. Who was busy and who waited,",
        "before (above) and after:",
        "",
        "![Timeline of the naive loop and of vpipe](timeline.svg)",
    )


def _engine(part: Figures) -> Iterator[str]:
    yield from ("## The engine by itself, and whole processes", "")
    null, startup = part["null"]["vpipe"], part["startup"]
    rows: list[tuple[str, str]] = [
        ("frames a second of the whole graph around a model that computes nothing, 64x64", f"{null['fps']:,.0f}"),
        ("scoring a clip of 2 s at 2 frames/s, start-up included", f"{startup['vpipe_s']:.2f} s"),
        ("the same by the naive loop", f"{startup['naive_s']:.2f} s"),
    ]
    if "own" in part:
        rows += [
            (
                f"vpipe's own code, of the CPU time of {words} of {length} s of 1080p30",
                f"{own[f'{name}_{length}s_share']:.1%}, {own[f'{name}_{length}s_ms_per_frame']:.3f} ms a frame",
            )
            for own in [part["own"]]
            for name, words in (("score", "scoring every frame"), ("mask", "masks of every frame"))
            for length in (24, 120)
        ]
    if "sampled" in part:
        sampled = part["sampled"]
        rows += [
            ("scoring 120 s of 1080p30 at 2 frames/s, start-up included", f"{sampled['vpipe_s']:.2f} s"),
            ("`ffmpeg -threads 2 -f null` on it", f"{sampled['ffmpeg_s']:.2f} s"),
            ("the one over the other", f"**{sampled['ratio']:.2f}**"),
        ]
    if "trace" in part:
        rows += [
            (f"CPU time with `--trace`, {words}; side by side", f"{trace[f'{name}_cpu_ratio']:.3f} x")
            for trace in [part["trace"]]
            for name, words in (("score", "score on every frame"), ("null", "the engine alone"))
        ]
    yield from _table(("what", "figure"), rows)


def _models(part: Figures) -> Iterator[str]:
    yield from (
        "## The models by themselves",
        "",
        "The same model, shape, streams, threads, precision and frames in flight, in turns of a quarter of a second.",
        "",
    )
    rows = [
        (each["model"], each["batch"], f"{each['fps']:.1f}", f"{each['app_fps']:.1f}", f"**{each['ratio']:.3f}**")
        for each in part["benchmark"]
    ]
    yield from _table(("model", "batch", "vpipe, frames/s", "benchmark_app", "ratio"), rows)
    small = part["quantize"]
    yield from (
        "",
        f"{small['of']} in 8-bit integers, by `vpipe models quantize` on the samples: {small['in_8_bits']} of "
        f"{small['layers']} layers, **{small['over_full']:.2f} x** the rate of full precision, off by "
        f"{small['mean']:.2f} {small['unit']} on average and {small['worst']:.2f} at worst over {small['frames']} "
        f"frames ({small['limit']:g} on average are allowed).",
    )


def _frameworks(part: Figures) -> Iterator[str]:
    yield from (
        "## Stock frameworks and OpenVINO",
        "",
        "Same weights, same input, same cores. *One at a time* is how a plain loop calls a network; *at its best*",
        "gives PyTorch and ONNX Runtime batches of 8, MediaPipe a process a core, OpenVINO a stream a core. Frames a",
        "second, and the ratio to the stock framework in the same way.",
        "",
    )
    rows = []
    for name, found in part.items():
        if not isinstance(found, dict) or "fps" not in found:
            continue
        for suffix, words in (("", "one at a time"), (" at its best", "at its best")):
            fps, over = found["fps"], found["over_stock"]
            rows.append(
                (
                    f"{name} ({found['note']})",
                    words,
                    f"{found['framework']} {fps['stock' + suffix]:.1f}",
                    f"{fps['OpenVINO' + suffix]:.1f} (**{over['OpenVINO' + suffix]:.2f} x**)",
                    f"{fps['OpenVINO INT8' + suffix]:.1f} (**{over['OpenVINO INT8' + suffix]:.2f} x**)",
                )
            )
    yield from _table(("network", "how", "stock", "OpenVINO FP32", "OpenVINO INT8"), rows)


def _batches(part: Figures) -> Iterator[str]:
    yield from (
        f"## Batches or streams: {part['model']}",
        "",
        "A larger batch shares the cost of a call; a stream a core shares nothing between cores.",
        "",
        "![Throughput by batch size](batch-throughput.svg)",
        "![Latency by batch size](batch-latency.svg)",
        "",
    )
    rows = [
        (name, row["batch"], f"{row['fps']:.1f}", f"{row['latency_ms']:.2f}")
        for name, found in part["curves"].items()
        for row in found
    ]
    yield from _table(("streams", "batch", "frames/s", "ms a batch, median"), rows)


def _cores(part: Figures) -> Iterator[str]:
    yield from ("## Cores, decode workers, pinning", "", "![Frames a second by cores](cores.svg)", "")
    yield from _table(("cores", "frames/s"), [(row["cores"], f"{row['fps']:.1f}") for row in part["cores"]])
    yield ""
    rows = [(row["workers"], f"{row['over_own']:.3f}") for row in part["workers"]]
    yield from _table(("decode workers", "over vpipe's own choice"), rows)
    nodes = part["numa_nodes"]
    yield from (
        "",
        f"The portrait net on RGB in planes (NCHW) over interleaved RGB (NHWC): {part['planes_over_interleaved']:.3f}.",
        "",
        f"Threads of the model pinned to cores, over free ones, the model alone: {part['pinned_over_free']:.3f}. "
        + ("One NUMA node: nothing to measure across nodes." if nodes == 1 else f"{nodes} NUMA nodes."),
    )


WRITERS = {
    "video": _video,
    "engine": _engine,
    "models": _models,
    "frameworks": _frameworks,
    "batches": _batches,
    "cores": _cores,
}

"""The reference results: everything that docs/results shows, measured on this machine by one command.

    scripts/bench reference [--out docs/results] [--rounds N] [--quick] [PART...]

Every figure is a ratio within one run, or stands beside what it is to be compared with. Raw figures go to figures.json,
pictures beside it, and README.md has all of them as tables, after each part: one that failed, or met a busy machine,
can be measured again by its name. `--quick` tries everything out in some ten minutes, into the cache directory; what
it gives is no result.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT), str(ROOT / "pipelines")]

from bench_clips import CACHE, clip_2s, clip_720  # noqa: E402 - after the path
from page import page  # noqa: E402
from plot import chart  # noqa: E402

from vpipe.engine import Manifest  # noqa: E402
from vpipe.engine.export import prepared, save_model  # noqa: E402
from vpipe.errors import VpipeError  # noqa: E402
from vpipe.host import Host  # noqa: E402
from vpipe.models.fetch import ensure  # noqa: E402
from vpipe.pipeline import pipeline_path  # noqa: E402
from vpipe.plugin import discover  # noqa: E402
from vpipe.tune.trial import Bench  # noqa: E402
from vpipe_mask.mediapipe_env import interpreter  # noqa: E402

VPIPE = [sys.executable, "-m", "vpipe"]
Figures = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long and how often."""

    rounds: int
    seconds: int
    quick: bool


def say(line: str) -> None:
    """Tell a person what happens."""
    print(line, file=sys.stderr, flush=True)


def run(command: list[str], **options: Any) -> str:
    """Run a command and return what it printed."""
    say("  " + " ".join(command)[:150])
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def last_json(text: str) -> Figures:
    """Return the JSON object of the last line."""
    found: Figures = json.loads(text.splitlines()[-1])
    return found


# ---- a 720-frame video: the naive loop against vpipe


def video(out: Path, effort: Effort) -> Figures:
    """Measure each product, every frame and sampled, and draw the naive loop and vpipe one above the other."""
    clip, figures = str(clip_720()), {}
    for name, plugin in discover().found.items():
        if not plugin.baselines:
            continue
        against = [word for other in plugin.baselines for word in ("--against", other)]
        for sample in ("every", "2/s"):
            options = ["--sample", sample, *against, "--rounds", str(effort.rounds - 1 or 1), "--json"]
            figures[f"{name} {sample}"] = last_json(run([*VPIPE, "bench", name, clip, *options]))
    with tempfile.TemporaryDirectory(prefix="vpipe-") as folder:
        before, after = f"{folder}/naive.json", f"{folder}/vpipe.json"
        run([sys.executable, "-m", "vpipe_score.naive", clip, "every", before])
        run([*VPIPE, "run", "score", clip, "-o", f"{folder}/out", "--sample", "every", "--trace", after])
        run([*VPIPE, "trace", after, "--against", before, "-o", str(out / "timeline.svg")])
    return figures


# ---- the engine by itself, and whole processes


def engine(out: Path, effort: Effort) -> Figures:
    """Measure what `scripts/bench` prints and no other part has: the engine alone and its cost, whole processes."""
    names = ["null", "startup", *([] if effort.quick else ["own", "sampled", "trace"])]
    told = run([sys.executable, str(HERE.parent / "bench_figures"), "--rounds", str(effort.rounds), *names])
    found = {each["bench"]: each for each in map(json.loads, told.splitlines())}
    return {name: found[name] for name in names}


# ---- the models by themselves


def models(out: Path, effort: Effort) -> Figures:
    """Measure the nets in vpipe's engine and in benchmark_app, and what 8-bit integers give of the score net."""
    command, found = [*VPIPE, "models"], []
    for model in ("score", "fetched:portrait"):
        for batch in (1, 16):
            options = ["--batch", str(batch), "--rounds", str(2 * effort.rounds + 1), "--json"]
            found.append(last_json(run([*command, "benchmark", model, *options])))
    with tempfile.TemporaryDirectory(prefix="vpipe-") as folder:
        data = [word for path in (ROOT / "samples", clip_2s()) for word in ("--data", str(path))]
        told = run(
            [*command, "quantize", "score", *data, "-o", f"{folder}/int8", "--frames", "150"],
            stderr=subprocess.DEVNULL,  # the bars of NNCF, many of them
        )
        report = json.loads(Path(folder, "int8", "report.json").read_text())
    kept = {name: report[name] for name in ("of", "unit", "limit", "mean", "worst", "layers", "frames")}
    over_full = float(re.search(r"([0-9.]+) x as fast", told)[1])  # type: ignore[index]
    return {"benchmark": found, "quantize": {**kept, "in_8_bits": report["layers"] - len(report["kept"]),
                                             "over_full": over_full}}  # fmt: skip


# ---- stock frameworks against OpenVINO


def frameworks(out: Path, effort: Effort) -> Figures:
    """Measure networks in their stock frameworks and in OpenVINO."""
    python = _environment()
    portrait = Manifest.load(ensure("portrait"))
    save_model(prepared(portrait, 1), CACHE / "portrait.xml")
    environment = {**os.environ, "MEDIAPIPE_PYTHON": str(interpreter())}
    found = {}
    for net in ("score", "portrait", "deeplab", "text"):
        arguments = [str(CACHE), str(effort.seconds), str(effort.rounds)]
        command = [python, str(HERE / "frameworks.py"), net, *arguments]
        found[net] = last_json(run(command, cwd=HERE, env=environment))
    return found


def _environment() -> str:
    """Return the interpreter of the environment with the stock frameworks, made once."""
    folder, wanted = CACHE / "reference-venv", HERE / "requirements.txt"
    stamp = folder / "requirements.txt"
    python = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        say(f"making {folder} (some 1.5 GB)")
        run([sys.executable, "-m", "venv", "--clear", str(folder)])
        run([str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)])
        stamp.write_text(wanted.read_text())
    return str(python)


# ---- batches and streams


def batches(out: Path, effort: Effort) -> Figures:
    """Measure throughput and latency of the score net by batch size, for one stream and for one a core."""
    cores = Host.detect().cores
    manifest = _score_model()
    found: Figures = {"model": f"{manifest.name} {manifest.version}", "curves": {}}
    sizes, lanes = (1, 2, 4, 8, 16, 32), sorted({1, cores})
    turns: dict[tuple[int, int], list[tuple[float, float]]] = {(s, b): [] for s in lanes for b in sizes}
    for _ in range(effort.rounds):
        for (streams, batch), turn in turns.items():
            turn.append(_app(manifest, batch, streams, 1, pin=False))
    for streams in lanes:
        found["curves"][f"{streams} stream{'s' if streams > 1 else ''}"] = [
            {"batch": batch, "fps": statistics.median(fps), "latency_ms": statistics.median(latency_ms)}
            for batch in sizes
            for fps, latency_ms in [zip(*turns[streams, batch], strict=True)]
        ]
    for what, up in (("fps", "frames a second"), ("latency_ms", "milliseconds a batch, median")):
        lines = {name: [(row["batch"], row[what]) for row in rows] for name, rows in found["curves"].items()}
        title = f"{found['model']}, {cores} cores: {up.split(',')[0]} by batch size"
        name = "batch-throughput.svg" if what == "fps" else "batch-latency.svg"
        (out / name).write_text(chart(title, "frames of a batch", up, lines, logarithmic=True))
    return found


def _score_model() -> Manifest:
    return Manifest.load(pipeline_path("score").parent / "models" / "score" / "model.toml")


def _app(manifest: Manifest, batch: int, streams: int, seconds: int, *, pin: bool) -> tuple[float, float]:
    """Return frames a second and the median latency (ms) of requests of `batch` frames, by OpenVINO's benchmark_app."""
    cores = Host.detect().cores
    with tempfile.TemporaryDirectory(prefix="vpipe-") as folder:
        model = Path(folder) / "model.xml"
        save_model(prepared(manifest, batch), model)
        app = str(Path(sys.executable).with_name("benchmark_app"))
        command = [app, "-m", str(model), "-d", "CPU", "-hint", "none", "-api", "async", "-t", str(seconds)]
        command += ["-nstreams", str(streams), "-nireq", str(streams), "-nthreads", str(cores)]
        told = run([*command, "-infer_precision", "f32", "-pin", "YES" if pin else "NO"], stderr=subprocess.STDOUT)
    count, duration, median = (
        float(re.search(rf"{name}:\s*([0-9.]+)", told)[1])  # type: ignore[index]
        for name in ("Count", "Duration", "Median")
    )
    return round(count * batch / duration * 1e3, 2), median


# ---- cores, workers, layouts, pinning


def cores(out: Path, effort: Effort) -> Figures:
    """Measure how the whole engine grows with cores and with decode workers, and what pinning does to the model."""
    clip, there = str(clip_720()), sorted(os.sched_getaffinity(0))
    found: Figures = {"cores": [], "workers": [], "numa_nodes": _numa_nodes()}
    for count in range(1, len(there) + 1):
        os.sched_setaffinity(0, there[:count])
        bench = Bench("score", clip, {"source.sample": "every"})
        bench.run({})
        fps = sorted(bench.run({}).fps for _ in range(effort.rounds))[effort.rounds // 2]
        found["cores"].append({"cores": count, "fps": round(fps, 2)})
    os.sched_setaffinity(0, there)
    bench = Bench("score", clip, {"source.sample": "every"})
    own = bench.run({})
    for count in range(1, len(there) + 2):
        pairs = [(bench.run({}), bench.run({"decode.workers": count})) for _ in range(effort.rounds)]
        ratio = sorted(b.fps / a.fps for a, b in pairs)[len(pairs) // 2]
        found["workers"].append({"workers": count, "over_own": round(ratio, 4), "own": own.fps > 0})
    manifest = _score_model()
    turns = [
        [_app(manifest, 1, len(there), effort.seconds, pin=pin)[0] for pin in (False, True)]
        for _ in range(effort.rounds)
    ]
    found["planes_over_interleaved"] = _planes(len(there), effort)
    found["pinned_over_free"] = round(sorted(b / a for a, b in turns)[len(turns) // 2], 4)
    lines = {"vpipe score": [(row["cores"], row["fps"]) for row in found["cores"]]}
    (out / "cores.svg").write_text(chart("The whole engine, every frame, by cores", "cores", "frames a second", lines))
    return found


def _planes(streams: int, effort: Effort) -> float:
    """Return the portrait net's rate on RGB in planes (NCHW) over its rate on interleaved RGB (NHWC), as views are."""
    interleaved = Manifest.load(ensure("portrait"))
    (array,) = interleaved.inputs
    _, rows, columns, channels = array.shape
    model_layout = array.model_layout or array.layout
    turned = dataclasses.replace(array, layout="NCHW", model_layout=model_layout, shape=(-1, channels, rows, columns))
    planes = dataclasses.replace(interleaved, inputs=(turned,))
    turns = [
        [_app(each, 1, streams, effort.seconds, pin=False)[0] for each in (interleaved, planes)]
        for _ in range(effort.rounds)
    ]
    return round(sorted(b / a for a, b in turns)[len(turns) // 2], 4)


def _numa_nodes() -> int:
    return max(1, len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))))


def machine() -> Figures:
    """Return what there is to know of the machine and the software."""
    from importlib.metadata import version

    host = Host.detect()
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": host.cpu,
        "cores": host.cores,
        "memory_gib": round(host.memory_bytes / (1 << 30), 1),
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("openvino", "av", "numpy", "opencv-python-headless")},
        "commit": run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]).strip(),
    }


PARTS: dict[str, Callable[[Path, Effort], Figures]] = {
    "video": video,
    "engine": engine,
    "models": models,
    "frameworks": frameworks,
    "batches": batches,
    "cores": cores,
}


def main() -> None:
    """Measure what was asked for; parts that were not keep the figures they have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all where none is named")
    parser.add_argument("--out", type=Path, help="docs/results if not given; with --quick a folder of the cache")
    parser.add_argument("--quick", action="store_true", help="once, and short")
    parser.add_argument("--rounds", type=int, default=3, help="turns of whatever is compared")
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"'{name}' is none of {', '.join(PARTS)}")
    out: Path = options.out or (CACHE / "quick" if options.quick else ROOT / "docs" / "results")
    out.mkdir(parents=True, exist_ok=True)
    effort = Effort(1, 1, quick=True) if options.quick else Effort(options.rounds, 2, quick=False)
    file = out / "figures.json"
    figures: Figures = json.loads(file.read_text()) if file.exists() else {}
    names = options.parts or list(PARTS)
    began = time.monotonic()
    for number, name in enumerate(names, 1):
        say(f"== {name}: part {number} of {len(names)}, after {(time.monotonic() - began) / 60:.1f} minutes")
        host = machine()
        try:
            measured = PARTS[name](out, effort)
        except (subprocess.CalledProcessError, VpipeError) as error:
            sys.exit(f"{name}: {error}\nto go on from there: scripts/bench reference {' '.join(names[number - 1 :])}")
        figures[name] = {**measured, "rounds": effort.rounds, "machine": host, "quick": options.quick}
        file.write_text(json.dumps(figures, indent=2) + "\n")
        (out / "README.md").write_text(page(figures))
    say(f"== done after {(time.monotonic() - began) / 60:.1f} minutes")
    print(out / "README.md")


if __name__ == "__main__":
    main()

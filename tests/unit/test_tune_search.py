"""What the search decides, on a machine that is simulated: its speed is known, and so is what the best settings are."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine import write_pipeline
from tests.models import write_convnet
from vpipe.errors import UsageError
from vpipe.host import Host
from vpipe.pipeline import Pipeline
from vpipe.tune.commands import parse_cores, parse_goal
from vpipe.tune.knobs import Settings, knobs_of
from vpipe.tune.search import Found, Goal, Search
from vpipe.tune.trial import Bench, Trial

Speed = Callable[[Settings], float]


class Simulated(Bench):
    """A bench whose runs take no time and whose noise is seeded: slow spells of several runs, and jitter."""

    def __init__(self, pipeline: Path, speed: Speed, noise: float = 0.0, refuse: str = "", seed: int = 1) -> None:
        super().__init__(str(pipeline), "", {})
        self._speed = speed
        self._noise = noise
        self._refuse = refuse
        self._random = random.Random(seed)
        self._spell = 1.0
        self.seen: list[Settings] = []

    def run(self, settings: Settings, limit_s: float | None = None) -> Trial:
        self.runs += 1
        self.seen.append(settings)
        if self._refuse and any(self._refuse in name for name in settings):
            return Trial(settings, refused="results differ")
        if self._random.random() < 0.1:
            self._spell = 1.0 - 5 * self._noise * self._random.random()
        fps = self._speed(settings) * self._spell * (1 + self._noise * self._random.uniform(-1, 1))
        seconds = 100 / fps
        if limit_s is not None and seconds > limit_s:
            return Trial(settings, hopeless=True)
        return Trial(settings, fps=fps, seconds=seconds, latency_ms=20.0 * settings.get(BATCH, 4), cpu_ms=1.0)


BATCH, WORKERS = "branches.0.batch.max_size", "decode.workers"


def hill(settings: Settings) -> float:
    """Best at 16 frames a batch and 3 workers; the two depend on each other a little."""
    batch, workers = settings.get(BATCH, 4), settings.get(WORKERS, 2)
    return 100.0 - 2 * abs(batch - 16) ** 0.8 - 9 * abs(workers - 3) - 0.2 * abs(batch / 4 - workers)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "small.toml")


def search(bench: Simulated, goal: Goal | None = None, budget_s: float = 60.0) -> tuple[Found, list[str]]:
    said: list[str] = []
    plan = bench.pipeline({}).plan(Host(cores=2, cpu="simulated", memory_bytes=1 << 33))
    found = Search(bench, goal or Goal(), budget_s=budget_s, say=said.append).run(knobs_of(plan))
    return found, said


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "detect", classmethod(lambda cls: cls(cores=2, cpu="simulated", memory_bytes=1 << 33)))


def test_search_finds_what_an_exhaustive_grid_finds(pipeline: Path) -> None:
    found, said = search(Simulated(pipeline, hill))
    best = max(hill({BATCH: b, WORKERS: w}) for b, w in itertools.product((1, 4, 8, 16, 32), (1, 2, 3, 4)))
    assert hill(found.settings) >= 0.95 * best
    assert found.speedup == pytest.approx(hill(found.settings) / hill({}))
    assert said[0].startswith("own settings: ")


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_slow_spells_do_not_make_it_worse(pipeline: Path, seed: int) -> None:
    found, _ = search(Simulated(pipeline, hill, noise=0.05, seed=seed))
    assert hill(found.settings) >= hill({})
    assert hill(found.settings) >= 0.9 * hill({BATCH: 16, WORKERS: 3})


def test_settings_that_are_best_already_stay(pipeline: Path) -> None:
    found, said = search(Simulated(pipeline, lambda settings: 100.0 - len(settings)))
    assert (found.settings, found.speedup) == ({}, 1.0)
    assert all("stays" in line for line in said[1:])


def test_settings_that_change_results_are_refused_and_never_tried_again(pipeline: Path) -> None:
    bench = Simulated(pipeline, hill, refuse="max_size")
    found, said = search(bench)
    assert BATCH not in found.settings
    assert f"{BATCH} = 16" in found.refused
    assert any("refused: results differ" in line for line in said)
    tried = [settings[BATCH] for settings in bench.seen if BATCH in settings]
    assert len(tried) == len(set(tried))


def test_hopeless_rival_is_run_once(pipeline: Path) -> None:
    bench = Simulated(pipeline, lambda settings: 10.0 if settings.get(WORKERS) == 4 else 100.0)
    search(bench)
    assert sum(settings.get(WORKERS) == 4 for settings in bench.seen) == 1


def test_goal_of_latency_gives_up_throughput_for_it(pipeline: Path) -> None:
    found, _ = search(Simulated(pipeline, hill), Goal(latency_ms=100.0))
    assert found.best.latency_ms <= 100.0
    assert found.settings.get(BATCH, 4) * 20 <= 100
    late, _ = search(Simulated(pipeline, hill), Goal(latency_ms=30.0))
    assert late.settings[BATCH] == 1


def test_search_that_has_no_time_keeps_what_there_is(pipeline: Path) -> None:
    found, _ = search(Simulated(pipeline, hill), budget_s=0.0)
    assert found.settings == {}
    assert found.runs == 2


def test_knobs_of_a_model_are_its_streams_and_precision_too(tmp_path: Path) -> None:
    write_convnet(tmp_path, depth=2)
    text = (
        'name = "small"\n[decode]\nslots = 10\n[[branches]]\nname = "one"\n[branches.view]\nkind = "fragments"\n'
        'grid = 7\npatch = 32\npair = true\n[branches.infer]\nmodel = "model.toml"\n[[branches]]\nname = "two"\n'
        '[branches.view]\nkind = "resize"\nwidth = 32\nheight = 32\n[branches.infer]\nmodel = "null"\n[run]\n'
    )
    plan = Pipeline.load(write_pipeline(tmp_path / "small.toml", text), profile=False).plan()
    knobs = {knob.name: knob.options(plan) for knob in knobs_of(plan)}
    assert {"streams of one", "precision of one", "batch of two", "decode workers", "slots"} <= knobs.keys()
    assert "streams of two" not in knobs
    assert {"branches.0.infer.streams": 1, "branches.0.infer.threads": 1, "branches.0.infer.requests": 2} in knobs[
        "streams of one"
    ]
    # Where the file fixes the slots, a larger batch must still find room in them.
    assert {"branches.0.batch.max_size": 32, "decode.slots": 16} in knobs["batch of one"]
    for options in knobs.values():
        for option in options:
            Pipeline.load(tmp_path / "small.toml", option, profile=False)


def test_goal_is_read() -> None:
    assert parse_goal("throughput") == Goal()
    assert parse_goal("latency=33.5") == Goal(33.5)
    assert str(parse_goal("latency=50")) == "latency=50"
    for text in ("speed", "latency", "latency=0", "latency=-5", "latency=x"):
        with pytest.raises(UsageError, match="is neither throughput nor latency=MS"):
            parse_goal(text)


def test_cores_are_read() -> None:
    assert parse_cores("0") == {0}
    for text in ("", "a", "1-", "-1", "0,,1"):
        with pytest.raises(UsageError, match="is not a list of cores"):
            parse_cores(text)
    for text in ("5-3", "0,99999"):
        with pytest.raises(UsageError, match="names none or others than may be used here"):
            parse_cores(text)

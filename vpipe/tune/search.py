"""The search: one knob after the other, its values in a race.

The best settings so far run in turns with their rivals, and a rival counts by its ratio to the run beside it: a
machine that slows down for a while slows both. A rival that falls behind is not run again, and one that is hopelessly
slow is broken off. It takes a knob's place only after it has won a median of several pairs. When a whole round of all
knobs has changed nothing, or the time is over, the search ends, and its outcome meets the pipeline's own settings once
more.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

from vpipe.tune.knobs import Knob, Settings
from vpipe.tune.trial import Bench, Trial

BEHIND = 0.97
"""A rival whose first ratio is lower is out."""
BETTER = 1.01
"""A rival must win by more, or it was chance."""
HOPELESS = 1.3
"""A run is broken off when it takes so many times as long as the best one's."""
PAIRS = 3
"""Pairs of runs that decide."""
ROUNDS = 2
"""Rounds of all knobs at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted: throughput, or throughput within a latency."""

    latency_ms: float | None = None

    def __str__(self) -> str:
        return "throughput" if self.latency_ms is None else f"latency={self.latency_ms:g}"

    def value(self, trial: Trial) -> float:
        """Return how good a trial is, higher is better.

        Too late counts as slower, steeply but not at once, so that a search which starts outside finds its way in.
        """
        if self.latency_ms is None or trial.latency_ms <= self.latency_ms:
            return trial.fps
        return trial.fps * float(self.latency_ms / trial.latency_ms) ** 4


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What a search has found."""

    settings: Settings
    speedup: float
    """Over the pipeline's own settings, by the goal's value; median of pairs."""
    best: Trial
    own: Trial
    """With the pipeline's own settings."""
    runs: int
    refused: dict[str, str]
    """Why settings would not do, by what they are."""


class Search:
    """Looks for the best settings of one pipeline; `say` is told what happens, a line at a time."""

    def __init__(self, bench: Bench, goal: Goal, *, budget_s: float, say: Callable[[str], None]) -> None:
        self._bench = bench
        self._goal = goal
        self._until = time.monotonic() + budget_s
        self._say = say
        self._refused: dict[str, str] = {}
        self._best = Trial({})

    @property
    def _over(self) -> bool:
        return time.monotonic() > self._until

    def run(self, knobs: list[Knob]) -> Found:
        """Search.

        Raises:
            UsageError: There is nothing to measure.
        """
        self._bench.run({})  # what all others are held against; it also fills the caches
        own = self._best = self._bench.run({})
        self._say(f"own settings: {_told(own)}")
        for _ in range(ROUNDS):
            before = self._best.settings
            for knob in knobs:
                if not self._over:
                    self._turn(knob)
            if self._best.settings == before or self._over:
                break
        return self._finish(own)

    def _turn(self, knob: Knob) -> None:
        """Race a knob's values against what is best so far."""
        plan = self._bench.pipeline(self._best.settings).plan()
        options = {_words(option): option for option in knob.options(plan)}
        ratios: dict[str, list[float]] = {words: [] for words in options if words not in self._refused}
        trials: dict[str, Trial] = {}
        for pair in range(PAIRS):
            for words in list(ratios):
                if self._over:
                    return
                ratio, trial = self._pair({**self._best.settings, **options[words]}, words)
                if trial is not None:
                    trials[words] = trial
                    ratios[words].append(ratio)
                if trial is None or statistics.median(ratios[words]) < (BEHIND if pair == 0 else 1.0):
                    del ratios[words]
        winners = {words: statistics.median(found) for words, found in ratios.items()}
        if not winners:
            self._say(f"{knob.name}: stays")
            return
        words = max(winners, key=lambda each: winners[each])
        if winners[words] < BETTER:
            self._say(f"{knob.name}: stays")
            return
        self._best = trials[words]
        self._say(f"{knob.name}: {words}, {winners[words]:.3f} x; {_told(self._best)}")

    def _pair(self, settings: Settings, words: str) -> tuple[float, Trial | None]:
        """Run what is best and a rival one after the other; returns the ratio of their values."""
        best = self._bench.run(self._best.settings)
        rival = self._bench.run(settings, HOPELESS * best.seconds)
        if rival.refused is not None:
            self._refused[words] = rival.refused
            self._say(f"  {words}: refused: {rival.refused}")
            return 0.0, None
        if rival.hopeless or not best.fps:
            return 0.0, None
        return self._goal.value(rival) / self._goal.value(best), rival

    def _finish(self, own: Trial) -> Found:
        """Let the outcome meet the pipeline's own settings."""
        pairs: list[tuple[Trial, Trial]] = []
        while self._best.settings and len(pairs) < PAIRS + 2:
            one = self._bench.run({})
            other = self._bench.run(self._best.settings)
            if other.fps:
                pairs.append((one, other))
        ratios = [self._goal.value(other) / self._goal.value(one) for one, other in pairs]
        if not ratios or statistics.median(ratios) < 1.0:
            return Found({}, 1.0, own, own, self._bench.runs, self._refused)
        middle = sorted(pairs, key=lambda pair: self._goal.value(pair[1]))[len(pairs) // 2]
        return Found(
            self._best.settings, statistics.median(ratios), middle[1], middle[0], self._bench.runs, self._refused
        )


def _words(settings: Settings) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _told(trial: Trial) -> str:
    return f"{trial.fps:.1f} frames/s, {trial.cpu_ms:.2f} CPU ms a frame, 99 of 100 within {trial.latency_ms:.0f} ms"

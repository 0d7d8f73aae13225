"""A pipeline that can be run: what the command line and the Python API share.

with vpipe.Pipeline.load("score").run(["a.mp4", "clips/"], out="out") as run:
    for row in run:
        print(row["path"], row["score"])
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpipe.config import PipelineConfig, load_toml, parse_pipeline
from vpipe.errors import ConfigError
from vpipe.host import Host
from vpipe.plan import Plan, resolve
from vpipe.plugin import find_pipeline
from vpipe.profile import Profile, find_profile
from vpipe.run import Row, Run, RunOptions
from vpipe.sources import resolve_sources
from vpipe.task import loading

if TYPE_CHECKING:
    from vpipe.live import LiveRun


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A checked pipeline file."""

    config: PipelineConfig
    """As the file and the overrides have it."""
    base: Path
    """Directory that model paths are relative to."""
    profile: Profile | None = None
    """What `vpipe tune` found for it on this machine; runs over files use it."""
    tuned: PipelineConfig | None = None
    """`config` with the profile's settings."""

    @classmethod
    def load(
        cls, name: str | os.PathLike[str], overrides: dict[str, Any] | None = None, *, profile: bool = True
    ) -> Pipeline:
        """Read a pipeline by its file or by the name that a plugin registered.

        Args:
            name: A path that ends in `.toml`, or a plugin's name such as `score`.
            overrides: Values that replace those of the file, by dotted path, for example
                `{"source.sample": "every", "decode.workers": 2, "branches.0.batch.max_size": 4}`.
            profile: Use the profile that `vpipe tune` wrote, where there is one and no override sets a knob.

        Raises:
            ConfigError: No such pipeline, or a bad value.
        """
        values, base = pipeline_values(name, overrides or {})
        config = parse_pipeline(values, str(pipeline_path(name)))
        found = find_profile(values, base, overrides or {}) if profile else None
        if found is None:
            return cls(config, base)
        for dotted, value in found.settings.items():
            _override(values, dotted, value)
        return cls(config, base, found, parse_pipeline(values, str(found.path)))

    def plan(self, host: Host | None = None) -> Plan:
        """Resolve for this machine; starts nothing.

        Raises:
            ConfigError: A view does not fit its model.
            ModelError: A model's manifest is missing or broken.
        """
        return resolve(self.tuned or self.config, self.base, host)

    def run(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        out: str | os.PathLike[str] | None = None,
        *,
        fresh: bool = False,
        progress: bool = False,
        metrics: str | None = None,
        convert: Callable[[Row], Row] | None = None,
        together: bool = False,
        trace: str | os.PathLike[str] | None = None,
    ) -> Run:
        """Start a run; iterate over it for rows as files end.

        Args:
            sources: Files, directories, globs, URLs, or `-`.
            out: The output directory; what is done there already is not done again. None: a temporary one.
            fresh: Forget earlier results in `out`.
            progress: Show a progress bar on standard error.
            metrics: `HOST:PORT` (or a port of the loopback) to serve Prometheus metrics on while the run lasts.
            convert: How the product words a row in the sinks.
            together: Start no work before every worker is ready (for measuring).
            trace: A file for what every worker was at, for Perfetto, Chrome and `vpipe trace`.

        Raises:
            SourceError: The sources name nothing.
            ResourceError: `out` cannot be written or is in use, or memory is short.
            VpipeError: As `plan` raises.
        """
        _refuse_nested()
        named = [sources] if isinstance(sources, (str, os.PathLike)) else sources
        inputs = resolve_sources(named)
        return Run(self.plan(), inputs, out, RunOptions(fresh, progress, metrics, convert or dict, together, trace))

    def live(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        outlet: int | None = None,
        metrics: str | None = None,
        stay: bool = False,
        trace: str | os.PathLike[str] | None = None,
    ) -> LiveRun:
        """Start a live run; iterate over it for events. Nothing is kept: the task's messages go to `outlet`.

        Args:
            sources: URLs (rtmp, rtsp, srt, udp, http with HLS), cameras (`/dev/video0`), and files, which are played at
                their own pace. More may come and go while it runs.
            outlet: Descriptor of one end of a `SOCK_SEQPACKET` pair. Each packet is the stream's number (u32, little
                endian) and a message of the task; what the other end does not take in time is dropped and counted.
            metrics: `HOST:PORT` (or a port of the loopback) to serve Prometheus metrics on while the run lasts.
            stay: Go on when no stream is left.
            trace: A file for what every worker was at; it is complete when the run has ended.

        Raises:
            SourceError: A source is of no kind that can be taken.
            ResourceError: There are more than `live.max_streams`, or memory is short.
            VpipeError: As `plan` raises.
        """
        from vpipe.live import LiveRun

        _refuse_nested()
        named = [sources] if isinstance(sources, (str, os.PathLike)) else sources
        plan = resolve(self.config, self.base, live=True)
        urls = [os.fspath(each) for each in named]
        return LiveRun(plan, urls, outlet=outlet, metrics=metrics, stay=stay, trace=trace)


def _refuse_nested() -> None:
    if loading:
        # Otherwise every worker that imports the task would start a run, whose workers would import it in turn.
        raise ConfigError(
            f"task {loading[-1]}: importing its module starts a run; put the task into a module of its own, "
            "or the run behind `if __name__ == '__main__':`"
        )


def pipeline_path(name: str | os.PathLike[str]) -> Path:
    """Return the pipeline file of a path that ends in `.toml`, or of a plugin's name.

    Raises:
        UsageError: No plugin has that name.
    """
    text = os.fspath(name)
    return Path(text) if text.endswith(".toml") else find_pipeline(text)


def pipeline_values(name: str | os.PathLike[str], overrides: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """Return a pipeline's values, not checked yet, with overrides in place, and the directory of its file.

    Raises:
        ConfigError: The file cannot be read, or an override has no place in it.
        UsageError: No plugin has that name.
    """
    path = pipeline_path(name)
    values = load_toml(path)
    for dotted, value in overrides.items():
        _override(values, dotted, value)
    return values, path.parent


def _override(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    at: Any = values
    try:
        for part in parents:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        at[int(last) if isinstance(at, list) else last] = value
    except (IndexError, ValueError, AttributeError, TypeError):
        raise ConfigError(f"override {dotted}: the pipeline has no such place") from None

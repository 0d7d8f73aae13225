"""A pipeline file, checked.

One class a table of the file. Unknown keys are errors; every message starts with the path of the bad value. What a
pipeline file may say is all here; what follows from it on this machine is `vpipe.plan`'s.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vpipe.errors import ConfigError
from vpipe.viewconfig import ViewConfig

Count = Annotated[int, Field(ge=1)]
Auto = Literal["auto"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _known(value: str) -> str:
    if not re.fullmatch(r"every|keyframes|[0-9]+(\.[0-9]+|/[0-9]+)?/s|n=[0-9]+", value):
        raise ValueError(f"'{value}' is not a sampling: use every, keyframes, N/s (for example 2/s) or n=N")
    if value not in ("every", "keyframes") and not re.search(r"[1-9]", value):
        raise ValueError(f"'{value}' takes no frame at all; N must be above 0")
    return value


Sampling = Annotated[str, AfterValidator(_known)]


class SourceConfig(_Table):
    """`[source]`: what is taken from each source."""

    sample: Sampling = "every"
    """`every`, `keyframes`, `N/s` (N frames a second on an exact grid of time) or `n=N` (N spread over the file)."""


class DecodeConfig(_Table):
    """`[decode]`: the decode workers."""

    workers: Count | Auto = "auto"
    """How many; auto: one a core."""
    slots: Annotated[int, Field(ge=2)] | Auto = "auto"
    """Slots of each frame ring, of up to four frames where every frame of a film is wanted; auto: what two batches and
    two more frames take."""
    max_pixels: Count = 7680 * 4320 + 7680 * 16
    """Larger pictures are refused before anything is allocated for them."""
    memory_mb: Count = 6144
    """Address space a decode worker may take beyond its rings."""
    skip_loop_filter: Literal["none", "nonref", "all"] = "none"
    """Frames whose block edges the decoder need not smooth (H.264, HEVC): those that no other refers to, or all, and
    then errors add up until the next keyframe. For small views only: fragments are of the picture's own pixels."""
    deadline_s: Annotated[float, Field(gt=0)] = 900.0
    """A segment that takes longer is given up, in seconds."""


class BatchConfig(_Table):
    """`[branches.batch]`: how frames become batches."""

    max_size: Annotated[int, Field(ge=1, le=256)] = 1
    max_wait_ms: Annotated[float, Field(ge=0)] = 20.0
    """A batch is sent when it is full, or when its first frame has waited so long."""
    slots: Annotated[int, Field(ge=2)] | Auto = "auto"
    """Slots (batches) of the tensor and result rings."""


class InferConfig(_Table):
    """`[branches.infer]`: the model and how it runs."""

    every: Count = 1
    """Run the model on every Nth frame that is taken, from the first of each segment on; the others are carried: the
    task gets them with their companions, and makes of them what it can."""
    model: str
    """A model manifest, relative to the pipeline file; `fetched:NAME`, one that `vpipe models fetch NAME` has brought;
    or `null`, the engine that computes nothing."""
    device: str = "CPU"
    """Any OpenVINO device string, for example CPU, GPU, NPU, AUTO:GPU,CPU, HETERO:GPU,CPU."""
    streams: Count | Auto = "auto"
    threads: Count | Auto = "auto"
    """Inference threads in all."""
    requests: Count | Auto = "auto"
    """Requests in flight."""
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"


class PostprocessConfig(_Table):
    """`[branches.postprocess]`: the product's own code."""

    task: str = "vpipe.task:Task"
    """`package.module:Class`, a subclass of `vpipe.Task`, importable by the workers."""
    options: dict[str, Any] = {}

    @field_validator("task")
    @classmethod
    def _importable(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            raise ValueError(f"'{value}' is not of the form package.module:Class")
        if value.startswith("__main__:"):
            raise ValueError("workers cannot import __main__ (a script or a notebook): move the task into a module")
        return value


class BranchConfig(_Table):
    """`[[branches]]`: one model with its own view, batch, infer and post-processing."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    sample: Sampling | None = None
    """Which of the source's frames this branch takes: `keyframes` or `N/s`, where the source's sample is `every`;
    without it all."""
    view: ViewConfig
    batch: BatchConfig = Field(default_factory=BatchConfig)
    infer: InferConfig
    postprocess: PostprocessConfig = Field(default_factory=PostprocessConfig)


class RunConfig(_Table):
    """`[run]`: life and death."""

    tries: Count = 3
    """Attempts at a segment before its file is quarantined."""
    hang_s: Annotated[float, Field(ge=2)] = 30.0
    """A worker that shows no progress for so long is killed, in seconds; one that idles shows itself every second."""
    start_s: Annotated[float, Field(gt=0)] = 120.0
    """A worker that is not ready after so long is killed (a large model may compile for long), in seconds."""
    restarts: Annotated[int, Field(ge=0)] = 5
    """Restarts of one worker within `restart_window_s` before the run ends."""
    restart_window_s: Annotated[float, Field(gt=0)] = 60.0
    drain_s: Annotated[float, Field(gt=0)] = 30.0
    """How long the first signal lets work in flight finish, in seconds."""


class LiveConfig(_Table):
    """`[live]`: live streams; only a live run looks at it."""

    max_streams: Annotated[int, Field(ge=1, le=256)] = 16
    """Seats: how many streams there can be at once. An empty one costs some address space and nothing else."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 4.0
    """In the place of `branches[].batch.max_wait_ms`: how long a frame waits for those of other streams."""
    max_size: Annotated[int, Field(ge=1, le=256)] = 4
    """At most this for `branches[].batch.max_size`: full batches make long queues when there is too much to do."""
    slots: Annotated[int, Field(ge=2)] = 2
    """In the place of `decode.slots`: frames of a stream that may wait before the freshest one wins."""
    threads: Count = 1
    """Decoder threads of a stream; more than one helps with coders that cut pictures into slices."""
    max_lag_ms: Annotated[float, Field(gt=0)] = 100.0
    """When decoding is so far behind what arrives, frames are left out until it has caught up."""
    max_every: Annotated[int, Field(ge=1, le=16)] = 3
    """Before it comes to that the model runs on every 2nd frame of each stream, then on ever fewer up to every Nth, of
    those that `infer.every` gives it; 1: never. Only where the task makes something of the others (`Task.carries`)."""
    open_s: Annotated[float, Field(gt=0)] = 10.0
    """A source that has not answered by then counts as down, in seconds."""
    stall_s: Annotated[float, Field(gt=0)] = 5.0
    """A source that sends no packet for so long counts as down, in seconds (HLS: three times that)."""
    jump_s: Annotated[float, Field(gt=0)] = 10.0
    """A step of time forward by more than this, or any step backward, begins a new epoch, in seconds."""
    retries: Annotated[int, Field(ge=0)] | Literal["forever"] = "forever"
    """Attempts without one picture, one after the other, before a source is given up."""
    retry_s: Annotated[float, Field(gt=0)] = 0.25
    """The pause before the first of these attempts, in seconds; each is half as long again as the one before."""
    retry_max_s: Annotated[float, Field(gt=0)] = 10.0
    """The longest pause."""
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    hang_s: Annotated[float, Field(ge=2)] = 5.0
    """In the place of `run.hang_s`."""


class SinkConfig(_Table):
    """`[[sinks]]`: where results go, relative to the output directory."""

    kind: Annotated[str, Field(pattern=r"^(jsonl|parquet|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]
    """`jsonl`, `parquet`, or a product's own: `package.module:Class`, a subclass of `vpipe.sinks.Sink`."""
    path: Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")] = ""
    """The file that `jsonl` and `parquet` write."""
    options: dict[str, Any] = {}
    """For a product's own sink."""

    @property
    def own(self) -> bool:
        """Whether it is a product's."""
        return ":" in self.kind

    @model_validator(mode="after")
    def _complete(self) -> SinkConfig:
        if not self.own and not self.path:
            raise ValueError(f"a {self.kind} sink needs a path")
        if not self.own and self.options:
            raise ValueError(f"a {self.kind} sink has no options")
        return self


class PipelineConfig(_Table):
    """A whole pipeline file."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    source: SourceConfig = Field(default_factory=SourceConfig)
    decode: DecodeConfig = Field(default_factory=DecodeConfig)
    branches: Annotated[tuple[BranchConfig, ...], Field(min_length=1)]
    run: RunConfig = Field(default_factory=RunConfig)
    live: LiveConfig = Field(default_factory=LiveConfig)
    sinks: tuple[SinkConfig, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> PipelineConfig:
        names = [branch.name for branch in self.branches]
        if len(set(names)) < len(names):
            raise ValueError(f"branch names must differ: {', '.join(names)}")
        for index, branch in enumerate(self.branches):
            if branch.view.kind == "fragments" and self.decode.skip_loop_filter != "none":
                raise ValueError(
                    f"decode.skip_loop_filter: '{self.decode.skip_loop_filter}', but branches[{index}] views the "
                    "picture's own pixels, which it would change; leave it at 'none'"
                )
            if branch.sample in (None, "every", self.source.sample):
                continue
            if self.source.sample != "every" or branch.sample.startswith("n="):
                raise ValueError(
                    f"branches[{index}].sample: '{branch.sample}' of a source sampled at '{self.source.sample}'; a "
                    "branch may take keyframes or N/s where source.sample is every"
                )
        return self


def explain(path: str, error: ValidationError) -> str:
    """Turn pydantic's first finding into one line that starts with the value's path."""
    found = error.errors(include_url=False)
    first = found[0]
    where = ""
    for part in first["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    where = where.lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(first["input"], (dict, list, BaseModel)) else f" (got {first['input']!r})"
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{path}: {where + ': ' if where else ''}{message}{value}{more}"


def parse_pipeline(values: dict[str, Any], origin: str) -> PipelineConfig:
    """Check a pipeline given as plain values.

    Raises:
        ConfigError: A value is missing, unknown or out of range; `origin` and the value's path are in the message.
    """
    try:
        return PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(origin, error)) from None


def load_pipeline(path: Path) -> PipelineConfig:
    """Read and check a pipeline file.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or holds a bad value.
    """
    return parse_pipeline(load_toml(path), str(path))


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None

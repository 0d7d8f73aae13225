"""Every error that vpipe raises on purpose.

VpipeError                      base: a message of what, where, the numbers, and the remedy
├── UsageError                  the caller asked for something that cannot be (exit code 2)
│   ├── ConfigError             a pipeline file or option has a bad value; names its path
│   ├── SourceError             a source cannot be used at all (unknown scheme, nothing matched)
│   └── ModelError              a model or its manifest is missing, corrupt or does not fit
├── MediaError                  one file cannot be decoded; `kind` says how; the run goes on (exit code 3)
├── RingError                   a ring rule was broken or a ring is lost
│   └── LoanEnded               a slot was used after its loan
├── ResourceError               memory, disk, port or device is not to be had (exit code 1)
└── RunError                    the run itself failed: a stage died past its restart budget (exit code 1)
    ├── TaskError               a task's own code raised
    └── Interrupted             the user asked to stop (exit code 130)
"""

from __future__ import annotations


class VpipeError(Exception):
    """Base of all deliberate errors; `str()` is the one line a person reads."""

    exit_code = 1


class UsageError(VpipeError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A pipeline file or an option has a bad value; the message starts with its path."""


class SourceError(UsageError):
    """A source cannot be used at all."""


class ModelError(UsageError):
    """A model or its manifest is missing, corrupt, or does not fit the branch."""


class MediaError(VpipeError):
    """One file cannot be decoded; other files go on.

    Args:
        kind: One short word for machines, for example `no_video`, `truncated`, `not_media`, `unreadable`.
        message: One sentence for people.
    """

    exit_code = 3

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class RingError(VpipeError):
    """A ring rule was broken, or a ring is lost."""


class LoanEnded(RingError):
    """A slot was used after its loan had ended."""


class ResourceError(VpipeError):
    """Memory, disk, a port or a device is not to be had."""


class RunError(VpipeError):
    """The run itself failed."""


class TaskError(RunError):
    """A task's own code raised; the message names the task, the method and the error."""


class Interrupted(RunError):
    """The user asked the run to stop before it was done."""

    exit_code = 130

"""Logging: one logger, silent unless the program that runs vpipe says otherwise.

Workers write plain lines to their standard error; the supervisor keeps the last of them for error messages and passes
them on to this logger.
"""

from __future__ import annotations

import logging
import sys

log = logging.getLogger("vpipe")
log.addHandler(logging.NullHandler())


def to_stderr(level: int) -> None:
    """Write the log to standard error (the command line's choice; a library never does this by itself)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)

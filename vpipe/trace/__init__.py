"""What every worker was at, moment by moment: `--trace FILE` writes it, `vpipe trace` draws it.

A worker notes each span, a stretch of time with one purpose, in a page of shared memory (`page`); it makes no system
call and waits for nobody. A thread of the supervisor's process drains the pages, adds how full the rings are and how
many cores each process takes, and writes a file that Perfetto and Chrome open (`tracer`, `events`). Without `--trace`
there is no page, and a worker's only cost is to look whether there is one.

Importing this brings what a worker needs; `tracer` and `solo` are imported where a trace is written.
"""

from __future__ import annotations

from vpipe.trace.page import SHORT_NS, Recorder, Span, TracePage

__all__ = ["SHORT_NS", "Recorder", "Span", "TracePage"]

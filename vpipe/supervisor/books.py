"""What a run knows of finished work, and how a result row is put together."""

from __future__ import annotations

import dataclasses
from typing import Any

from vpipe.frame import StreamInfo
from vpipe.ledger import Ledger, row_key, work_key
from vpipe.plan import BranchPlan, Plan
from vpipe.supervisor.work import FileState, FileWork
from vpipe.task import Columns

STREAM_ROW = "stream"
"""Row key under which the facts and segments of a stream are kept beside its results."""

FACTS = (
    "container",
    "codec",
    "pixel_format",
    "width",
    "height",
    "rotation",
    "duration_s",
    "frame_rate",
    "time_base",
    "size_bytes",
)


class Books:
    """Reads and writes the ledger for the supervisor, by content key."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._ledger = ledger
        self._branches = {branch.name: branch for branch in plan.branches}
        self._settings = {branch.name: _settings(branch, plan) for branch in plan.branches}
        self._row_keys = {
            branch.name: row_key(branch.task, branch.options, branch.task_version) for branch in plan.branches
        }
        self.settings_key = work_key("", {"branches": self._settings, "rows": self._row_keys})[:16]

    def keys(self, content: str) -> dict[str, dict[str, str]]:
        """Return each branch's work key and row key for a content."""
        return {
            name: {"work": work_key(content, settings), "row": self._row_keys[name]}
            for name, settings in self._settings.items()
        }

    def _work_keys(self, content: str) -> list[str]:
        return [keys["work"] for keys in self.keys(content).values()]

    def stream(self, content: str) -> tuple[StreamInfo, list[dict[str, Any]]] | None:
        """Return a stream's facts and segments where an earlier run has made them."""
        kept = self._ledger.row(self._work_keys(content)[0], STREAM_ROW)
        return None if kept is None else (StreamInfo.from_dict(kept["info"]), kept["segments"])

    def keep_stream(self, content: str, info: dict[str, Any], segments: list[dict[str, Any]]) -> StreamInfo:
        """Keep a stream's facts and segments for a later run."""
        self._ledger.commit_row(self._work_keys(content)[0], STREAM_ROW, {"info": info, "segments": segments})
        return StreamInfo.from_dict(info)

    def renamed(self, info: StreamInfo, file: FileWork) -> StreamInfo:
        """Return the facts of a stream as this run names it."""
        return dataclasses.replace(info, stream=file.number, path=file.path)

    def committed(self, content: str) -> set[int]:
        """Return the segments that every branch has committed."""
        return set.intersection(*(self._ledger.segments(key) for key in self._work_keys(content)))

    def rows(self, content: str) -> dict[str, Any] | None:
        """Return the rows of all branches where all are there."""
        found = {name: self._ledger.row(keys["work"], keys["row"]) for name, keys in self.keys(content).items()}
        return None if any(row is None for row in found.values()) else found

    def columns(self, file: FileWork, branch: str | None = None) -> Columns | None:
        """Return the per-frame columns of a file that is done; None where it failed."""
        if file.state is not FileState.DONE or file.key is None or file.info is None:
            return None
        name = branch or next(iter(self._branches))
        columns = self._ledger.columns(self.keys(file.key)[name]["work"], range(file.info.segments))
        return {name: values for name, values in columns.items() if not name.startswith("_")}

    def result(self, file: FileWork) -> dict[str, Any]:
        """Return the merged row of an ended file and note it in the ledger."""
        source = file.source
        failed = file.state is FileState.FAILED
        kind, message = file.error or (None, None)
        work = None if failed or source.key is None else self._work_keys(source.key)[0]
        self._ledger.set_input(
            file.number, file.path, work, "failed" if failed else "done", error_kind=kind, error_message=message
        )
        row: dict[str, Any] = {
            "path": file.path,
            "key": source.key,
            "status": "failed" if failed else "done",
            "error": {"kind": kind, "message": message} if failed else None,
        }
        if source.info is not None:
            facts = source.info.to_dict()
            row |= {name: facts[name] for name in FACTS}
        row["settings_key"] = self.settings_key
        row["models"] = {
            name: None
            if branch.manifest is None
            else {"name": branch.manifest.name, "version": branch.manifest.version}
            for name, branch in self._branches.items()
        }
        row["reused"] = file.reused or source is not file
        if source.row is not None:
            counts = next(iter(source.row.values()))["facts"]
            row["frames"] = {
                "seen": int(counts.get("seen", 0)),
                "taken": int(max(each["facts"].get("taken", 0) for each in source.row.values())),
                "corrupt": int(counts.get("corrupt", 0)),
                "dropped": 0,
            }
            row["timings"] = {"decode_cpu_s": round(float(counts.get("cpu_s", 0.0)), 3)}
            if len(source.row) == 1:
                row = {**next(iter(source.row.values()))["task"], **row}
            else:
                row |= {name: branch_row["task"] for name, branch_row in source.row.items()}
        return row


def _settings(branch: BranchPlan, plan: Plan) -> dict[str, Any]:
    """Return all that decides a frame's values in a branch."""
    skipped = plan.config.decode.skip_loop_filter
    return {
        "view": branch.view.to_dict(),
        "sample": branch.sample,
        "every": branch.every,
        "model": "null" if branch.manifest is None else branch.manifest.digest,
        "device": branch.infer.device,
        "precision": branch.infer.precision,
        "task": branch.task,
        **({"frame_key": branch.frame_key} if branch.frame_key else {}),
        **({} if skipped == "none" else {"skip_loop_filter": skipped}),  # work of before is still good
    }

"""The look at what tests leave behind sees what it should."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.conftest import remaining_processes


@contextlib.contextmanager
def waiting_process(env: dict[str, str]) -> Iterator[int]:
    """A process that is up: before it has spoken, the kernel may not show its command line yet."""
    code = "import sys; print('vpipe', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"vpipe\n"
        yield process.pid


def test_process_of_this_session_is_seen_until_it_ends() -> None:
    with waiting_process(dict(os.environ)) as pid:
        assert pid in remaining_processes()
    assert pid not in remaining_processes()


def test_process_of_another_session_is_left_alone() -> None:
    with waiting_process({}) as pid:
        assert pid not in remaining_processes()

"""The look at what tests leave behind sees what it should."""

import subprocess
import sys

from tests.conftest import remaining_processes


def test_process_of_this_session_is_seen_until_it_ends() -> None:
    code = "import sys; sys.stdin.read(); 'vpipe'"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert process.pid in remaining_processes()
    assert process.pid not in remaining_processes()


def test_process_of_another_session_is_left_alone() -> None:
    code = "import sys; sys.stdin.read(); 'vpipe'"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, env={}) as process:
        assert process.pid not in remaining_processes()

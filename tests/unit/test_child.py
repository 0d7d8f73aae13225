"""Waiting for what children write."""

import os
import resource

import pytest

from vpipe.child import readable
from vpipe.wakeup import WakeUp


def test_readable_tells_which_can_be_read_or_have_ended() -> None:
    quiet, ended, wake = os.pipe(), os.pipe(), WakeUp()
    os.close(ended[1])
    try:
        waited_for = [quiet[0], ended[0], wake.fileno()]
        assert readable(waited_for) == {ended[0]}
        wake.set()
        assert readable(waited_for, None) == {ended[0], wake.fileno()}
        wake.clear()
        assert readable([quiet[0], wake.fileno()], 0.01) == set()
    finally:
        wake.close()
        for descriptor in (*quiet, ended[0]):
            os.close(descriptor)


def test_descriptors_beyond_1023_are_waited_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1100:
        pytest.skip(f"only {hard} descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100), hard))
    ends = os.pipe()
    try:
        high = os.dup2(ends[0], 1050)
        os.write(ends[1], b"x")
        assert readable([high]) == {high}
        os.close(high)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in ends:
            os.close(descriptor)

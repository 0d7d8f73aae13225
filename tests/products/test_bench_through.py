"""`scripts/bench through`: live streams through real servers are counted frame by frame. How late, is not for tests."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import FFMPEG
from tests.nginx import require_nginx

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("through", ["rtmp", "srt", "rtsp"])
def test_every_frame_from_a_server_is_accounted_for(through: str) -> None:
    if through == "rtmp":
        require_nginx()
    if through == "srt" and shutil.which("srt-live-transmit") is None:
        protocols = subprocess.run([FFMPEG, "-hide_banner", "-protocols"], capture_output=True, text=True, check=True)
        if "srt" not in protocols.stdout.split():
            pytest.skip("nothing here speaks SRT")
    line = [sys.executable, ROOT / "scripts" / "bench_through", through, "--seconds", "3", "--size", "320x180"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["bench"], found["through"]) == ("through", through)
    assert abs(found["frames"] - 90) < 45
    assert found["applied"] > 0.9
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["memory_mib"]["first"] > 10
    assert found["good"] == (done.returncode == 0)
    if found["good"]:
        assert found["lost"] == 0
        assert not found["dropped"]

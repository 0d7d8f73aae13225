"""nginx with its rtmp module on the loopback, started and ended as a test likes; from Debian's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")

CONFIG = """
daemon off;
master_process off;
{user}
load_module {module};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 64; }}
rtmp {{
    server {{
        listen 127.0.0.1:{port};
        chunk_size 4096;
        application live {{ live on; record off; wait_key on; }}
    }}
}}
"""


def require_nginx() -> None:
    """Skip the test that calls where nginx or its module is not installed; under CI its absence is a failure."""
    if shutil.which("nginx") is None or not MODULE.exists():
        text = "no nginx with the rtmp module (Debian: apt-get install nginx libnginx-mod-rtmp)"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)


class RtmpServer:
    """A context manager; `url(name)` is where to send a stream to and where to take it from."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        """Return the address of a stream."""
        return f"rtmp://127.0.0.1:{self.port}/live/{name}"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._folder = tempfile.mkdtemp(prefix="vpipe-nginx-")
        user = "user root;" if os.getuid() == 0 else ""
        config = Path(self._folder) / "nginx.conf"
        config.write_text(CONFIG.format(module=MODULE, folder=self._folder, port=self.port, user=user))
        command = ["nginx", "-c", str(config), "-p", self._folder, "-e", f"{self._folder}/error.log"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        log = Path(self._folder, "error.log")
        raise RuntimeError(f"nginx did not start: {log.read_text() if log.exists() else 'no log'}")

    def kill(self) -> None:
        """Kill it: all connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> RtmpServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

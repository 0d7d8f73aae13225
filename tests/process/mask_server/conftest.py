"""Feed servers for tests: one for all tests of a module that leave it as it was, and one to be harmed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feeds import (
    Feeder,
    ask,
    ten_masks,
    wait_until,
)
from vpipe_mask.server import FeedServer, ServerConfig


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedServer]:
    """A server for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("server")
    with FeedServer(ServerConfig(host="127.0.0.1", pub=f"ipc://{folder}/feed", max_rate=1000)) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[FeedServer]:
    """A server that a test may harm."""
    with FeedServer(ServerConfig(host="127.0.0.1", pub=f"ipc://{tmp_path}/feed")) as running:
        yield running


@pytest.fixture
def feeder(server: FeedServer) -> Iterator[Feeder]:
    """The live stream `cam1`, which has sent ten masks."""
    feeder = ten_masks(server)
    yield feeder
    feeder.tell("removed")
    wait_until(lambda: not ask(server, "/streams").json["streams"], "the stream to be gone")

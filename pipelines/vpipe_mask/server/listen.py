"""The listening socket of the HTTP side: how many connections there may be, and how long a request may take to come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from vpipe.errors import ResourceError
from vpipe_mask.server.config import ServerConfig
from vpipe_mask.server.hub import Hub
from vpipe_mask.server.web import Forward, Web

IDLE_S = 15.0
END_S = 2.0
FULL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Listener:
    """Listens from `open` to `close`."""

    def __init__(self, config: ServerConfig, hub: Hub, forward: Forward) -> None:
        self._config = config
        self._silent: set[asyncio.BaseProtocol] = set()
        """Connections that have not asked for anything yet."""
        app = Web(config, hub, forward).application()
        app.middlewares.insert(0, self._note)
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, keepalive_timeout=IDLE_S, shutdown_timeout=END_S
        )
        self._server: asyncio.Server | None = None

    async def open(self) -> tuple[str, int]:
        """Start to listen; the host and the port in use.

        Raises:
            ResourceError: The address is not to be had.
        """
        await self._runner.setup()
        host, port = self._config.host, self._config.port
        try:
            self._server = await asyncio.get_running_loop().create_server(self._connection, host, port)
        except OSError as error:
            raise ResourceError(
                f"--serve {host}:{port}: cannot listen: {error.strerror}; choose another port, or end what uses it"
            ) from None
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return address

    async def close(self) -> None:
        """Say good-bye to the clients and give the port back."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        # Those just accepted are not among the server's yet.
        taken = {*server.connections, *self._silent}
        if len(taken) >= 2 * self._config.max_clients:
            return _Full()
        protocol = server()
        self._silent.add(protocol)
        asyncio.get_running_loop().call_later(self._config.patience_s, self._judge, protocol)
        return protocol

    def _judge(self, protocol: web.RequestHandler) -> None:
        if protocol in self._silent:
            self._silent.discard(protocol)
            if protocol.transport is not None:
                protocol.transport.abort()

    @web.middleware
    async def _note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self._silent.discard(request.protocol)
        return await handler(request)


class _Full(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(FULL)
        transport.close()

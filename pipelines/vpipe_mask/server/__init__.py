"""The feed server: a process of its own that hands the masks of live streams to renderers.

    engine --outlet (SOCK_SEQPACKET)--> hub --> WebSocket, HTTP, page     (aiohttp)
    parent --control channel----------> hub --> ZeroMQ PUB                (pyzmq)
                                            --> recorder                  (files)

`FeedServer` is the parent's side; `python -m vpipe_mask.server` the process. The same bytes, as docs/mask-feed.md
describes them, leave on every transport. Nothing that a client does or fails to do reaches the engine.
"""

from vpipe_mask.server.config import ServerConfig, parse_serve
from vpipe_mask.server.launch import Control, FeedServer

__all__ = ["Control", "FeedServer", "ServerConfig", "parse_serve"]

"""Models by name: where they are, bringing those that a product can fetch, and looking into them.

A product names what it can fetch in `Plugin.models`; `vpipe models fetch NAME`, or `ensure(NAME)` on first use,
brings it into the user's cache, and a pipeline file names it `fetched:NAME`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpipe.engine.convert import convert_model
    from vpipe.engine.store import cache_folder
    from vpipe.models.fetch import ensure
    from vpipe.models.manifests import write_manifest
    from vpipe.models.wheel import wheel_members

__all__ = ["cache_folder", "convert_model", "ensure", "wheel_members", "write_manifest"]

_HOMES = {
    "cache_folder": "vpipe.engine.store",
    "convert_model": "vpipe.engine.convert",
    "ensure": "vpipe.models.fetch",
    "wheel_members": "vpipe.models.wheel",
    "write_manifest": "vpipe.models.manifests",
}


def __getattr__(name: str) -> Any:
    # On first use: most of what the command line does needs no model runtime.
    if name not in _HOMES:
        raise AttributeError(f"module 'vpipe.models' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)

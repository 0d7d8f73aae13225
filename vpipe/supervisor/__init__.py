"""The parent of a run: hands out work, watches the workers, keeps what is finished.

It owns the processes, the work list and the run's lock on the ledger; frames never pass through it. It runs in one
thread from start to end, because what workers are forked from is bound to the thread that started it.
"""

from vpipe.supervisor.books import Books
from vpipe.supervisor.core import Supervisor
from vpipe.supervisor.loop import Loop

__all__ = ["Books", "Loop", "Supervisor"]

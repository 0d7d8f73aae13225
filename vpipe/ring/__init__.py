"""A ring: fixed slots of shared memory between one writer process and one reader process.

    memory    [ slot 0 ][ slot 1 ] ... [ slot n-1 ]                      one anonymous mapping, vpipe.memory
    slot      [ header 64 B ][ frame headers ][ field 0 ][ field 1 ] ...  vpipe.layout
    header    0  sequence    u64  above 0 exactly from commit to release
              8  generation  u32  under which it was committed
              12 count       u32  frames in the slot, 1..capacity
              16 unused
    record    0  generation  u32  records of another generation than one's own are ignored
              4  slot        u32
              8  sequence    u64  of the commit; 0 in a credit that first grants a slot

A slot belongs to exactly one side. The writer's doorbell (a record, writer to reader) gives a committed slot to the
reader, the reader's credit (a record, reader to writer) gives it back. Back-pressure is the absence of credits.
Records travel over a socket pair; the system calls order memory, so nothing rests on the processor's own ordering.

Restart. A side may be killed at any moment and replaced by a fresh process under a higher generation, while the
survivor is told `resync`. The supervisor first waits until the dead process is reaped; from then on everything the
dead wrote is visible, and the slot headers say all there is to know: a header with a sequence is a committed slot
that was not released, one without is free. So the survivor forgets the records under way, and

* a surviving writer keeps its loans, announces again every committed slot, in order, and takes all others as free;
* a surviving reader keeps the slots it has taken, announces every other committed slot to itself, in order (even
  those whose doorbell the dead writer had not sent), and grants all others.

The fresh side starts with nothing and learns all from records of its own generation, none of which is sent before
the survivor's resync. Delivery is therefore at least once: what a dead reader had not released comes again.
Sequences start at `generation << 40` in each writer's life, so they grow over the life of the whole ring.
"""

from vpipe.ring.owner import Ring, RingSpec
from vpipe.ring.reader import ReadLoan, RingReader
from vpipe.ring.writer import RingWriter, WriteLoan

__all__ = ["ReadLoan", "Ring", "RingReader", "RingSpec", "RingWriter", "WriteLoan"]

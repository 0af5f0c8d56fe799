"""Questions about numbers on the GPU, such as whether a class exists, whose answers nobody waits for.

A kernel that finds a fault writes it down and goes on without harm; the host looks at what was written down when it has waited for the
GPU anyway: at .item(), .cpu(), synchronize(). So the error comes late, but training never stops to ask. Answers lie in a table on the GPU,
-1 where there is no fault; a graph that is run again has a table of its own.
"""

import numpy as np

from kernels.cuda import runtime
from kernels.cuda.array import full
from kernels.cuda.compiler import cuda, kernel, scalar, typed
from kernels.cuda.rows import ALL, WARP

ROOM = 256             # questions of a table


class Checks:
    """Questions that wait for their answers."""

    def __init__(self):
        self.table, self.asked = None, []

    def open(self):
        """Make the table if it is not there."""
        if self.table is None:
            self.table = full(ROOM, -1, np.int64)

    def ask(self, complain):
        """(table, place): where a kernel writes its answer, if it is not -1. `complain(answer)` makes the error of a fault."""
        self.open()
        if len(self.asked) == ROOM:
            if runtime.captured is not None:
                raise RuntimeError(f"a CUDA graph has room for {ROOM} checks of indices; capture a smaller part of the work")
            runtime.synchronize()
        self.asked.append(complain)
        return self.table, len(self.asked) - 1

    def look(self, again=False):
        """Raise the error of the first fault that was found. All is forgotten then, but for questions that are asked `again`."""
        if not self.asked:
            return
        answers = np.empty(ROOM, np.int64)
        runtime.device().download(answers, self.table.address)
        asked, found = self.asked, np.flatnonzero(answers >= 0)
        self.asked = asked if again else []
        if found.size:
            runtime.device().upload(self.table.address, np.full(ROOM, -1))
            raise asked[found[0]](int(answers[found[0]]))


_checks = Checks()
runtime.looks.append(lambda: _checks.look())


@kernel(threads=WARP)
def outside_kernel(index, table, at, n, limit, ignore):
    """table[at] = place of the first index that is neither in 0..limit-1 nor `ignore`, if there is one. One warp."""
    left = typed(table, 0)                         # n minus the place: the first one has the largest
    for i in range(cuda.threadIdx.x, n, WARP):
        found = index[i]
        if found != ignore and (found < 0 or found >= limit):
            left = scalar.maximum(left, typed(table, n - i))
    for distance in (16, 8, 4, 2, 1):
        left = scalar.maximum(left, cuda.shfl_xor_sync(ALL, left, distance))
    if cuda.threadIdx.x == 0 and left > 0:
        table[at] = n - left


def require_inside(index, limit, complain, ignore=0):
    """Ask whether every number of an int64 array lies in 0..limit-1 or is `ignore`. `complain(place, value)` makes the error."""
    index = index.ravel()
    checks = _checks if runtime.captured is None else runtime.captured.checks
    table, at = checks.ask(lambda place: complain(place, index[place].item()))
    outside_kernel[1, WARP](index, table, at, index.size, limit, ignore)

"""How a peer's process asks the system for memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from orchestrator.contract import memory

SCRIPT = """
import ctypes
import sys
from orchestrator.contract import memory

class Said(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"  # of mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Said
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "apart":
    memory.keep_pieces_apart()
large = libc.malloc(16 << 20)
libc.free(large)
before = libc.mallinfo2().hblkhd
libc.malloc(memory.LARGE_BYTES + 4096)
libc.malloc(memory.LARGE_BYTES // 2)
print((libc.mallinfo2().hblkhd - before) // memory.LARGE_BYTES)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
@pytest.mark.parametrize(("how", "own"), [("apart", 1), ("as it is", 0)])
def test_what_is_large_is_kept_out_of_the_heap_though_larger_pieces_were_freed(how: str, own: int) -> None:
    """So that it goes back to the system: glibc by itself would from then on keep what is as large in its heap."""
    said = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == str(own)


TRIMMING = """
import ctypes
import threading
from orchestrator.contract import memory

MIB = 2**20
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * 4096

def burst() -> None:
    # What stays here and there keeps the heap from ending further down.
    pieces = [libc.malloc(1000) for _ in range(40 * MIB // 1000)]
    for piece in pieces:
        ctypes.memset(piece, 1, 1000)
    ours.look()
    for place, piece in enumerate(pieces):
        if place % 100:
            libc.free(piece)

memory.keep_pieces_apart()
ours = memory.trimmer()
for _ in range(2):
    thread = threading.Thread(target=burst)
    thread.start()
    thread.join()
    before = resident()
    print(ours.look(), (before - resident()) // MIB >= 20, ours.look())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
def test_what_a_burst_leaves_free_between_what_stays_goes_back_to_the_system_once() -> None:
    said = subprocess.run([sys.executable, "-c", TRIMMING], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split("\n") == ["True True False", "True True False", ""]


def test_memory_that_is_free_all_the_time_is_not_looked_through_again() -> None:
    trims: list[int] = []
    mib = 2**20
    free = iter([20 * mib, 27 * mib, 19 * mib, 27 * mib, 30 * mib, 30 * mib, 37 * mib])
    ours = memory.Trimmer(lambda: next(free), lambda: trims.append(1))
    assert [ours.look() for _ in range(5)] == [False, False, True, False, False]
    assert len(trims) == 1

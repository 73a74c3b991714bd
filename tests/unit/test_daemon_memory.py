"""How a peer's process asks the system for memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

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
    memory.keep_large_pieces_apart()
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

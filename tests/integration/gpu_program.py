"""A task that uses GPUs, with nothing but Python and NVIDIA's driver: ``python gpu_program.py WORD [MIB]``.

``hold MIB``: print the devices that CUDA shows as one line of JSON, take so much memory on the first, keep it busy and
answer to SIGTERM. ``fault``: write where nothing is, which is XID 31 (a program's own fault). ``count``: just print.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import uuid

CLOCKS = 20_000_000
"""Some 10 ms."""
PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry spin(.param .u64 clocks) {
  .reg .pred %p; .reg .u64 %end, %now, %begin;
  ld.param.u64 %end, [clocks];
  mov.u64 %begin, %clock64;
again:
  mov.u64 %now, %clock64;
  sub.u64 %now, %now, %begin;
  setp.lt.u64 %p, %now, %end;
  @%p bra again;
  ret;
}
.visible .entry fault() {
  .reg .u64 %where; .reg .u32 %what;
  mov.u64 %where, 16;
  mov.u32 %what, 1;
  st.global.u32 [%where], %what;
  ret;
}
"""
NO_DEVICE = 100


class Cuda:
    """As much of the driver's interface as is needed. Raises ``OSError`` without a driver."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libcuda.so.1")
        self.here = self._lib.cuInit(0) == 0

    def check(self, name: str, *arguments: object) -> None:
        if code := getattr(self._lib, name)(*arguments):
            raise OSError(f"{name}: error {code}")

    def devices(self) -> list[str]:
        """As NVML names them."""
        if not self.here:
            return []
        count = ctypes.c_int()
        self.check("cuDeviceGetCount", ctypes.byref(count))
        found = []
        for number in range(count.value):
            device, name = ctypes.c_int(), ctypes.create_string_buffer(16)
            self.check("cuDeviceGet", ctypes.byref(device), number)
            self.check("cuDeviceGetUuid_v2", name, device)
            found.append(f"GPU-{uuid.UUID(bytes=name.raw)}")
        return found

    def context(self) -> None:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.check("cuDeviceGet", ctypes.byref(device), 0)
        self.check("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.check("cuCtxSetCurrent", context)

    def take(self, mib: int) -> None:
        place = ctypes.c_uint64()
        self.check("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(mib << 20))

    def kernel(self, name: bytes) -> ctypes.c_void_p:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.check("cuModuleLoadData", ctypes.byref(module), PTX)
        self.check("cuModuleGetFunction", ctypes.byref(function), module, name)
        return function

    def launch(self, kernel: ctypes.c_void_p, *arguments: ctypes.c_uint64) -> None:
        pointers = (ctypes.c_void_p * max(1, len(arguments)))(
            *(ctypes.cast(ctypes.pointer(one), ctypes.c_void_p) for one in arguments)
        )
        self.check("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, None, pointers, None)
        self.check("cuCtxSynchronize")


def main() -> None:
    cuda = Cuda()
    print(json.dumps(cuda.devices()), flush=True)
    if sys.argv[1] == "count":
        return
    cuda.context()
    if sys.argv[1] == "fault":
        cuda.launch(cuda.kernel(b"fault"))
        return
    cuda.take(int(sys.argv[2]))
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    spin = cuda.kernel(b"spin")
    print("holds", flush=True)
    while not ended:
        cuda.launch(spin, ctypes.c_uint64(CLOCKS))


if __name__ == "__main__":
    main()

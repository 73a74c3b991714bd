"""The container that holds a group's network: an image of one tiny program, made here, for no registry has to be asked.

Owns: that program, byte by byte, and the image around it. The program sleeps for ever: on amd64 ``pause``, on arm64
``ppoll`` of nothing without a timeout. The rule: it holds nothing, writes nothing and may be killed at once.
"""

from __future__ import annotations

import io
import struct
import tarfile
import threading

import docker
import docker.errors

from agent.driver import StartError

REPOSITORY, TAG = "raftsman-pause", "1"
IMAGE = f"{REPOSITORY}:{TAG}"
CHANGES = ('ENTRYPOINT ["/pause"]',)

_BASE = 0x400000
_HEADERS = 64 + 56  # of the file, and of its one segment
_AMD64 = bytes.fromhex(
    "b822000000"  # mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp to the mov
)
_ARM64 = b"".join(
    struct.pack("<I", word)
    for word in (
        0xD2800000,  # mov x0, 0: no descriptors
        0xD2800001,  # mov x1, 0
        0xD2800002,  # mov x2, 0: no timeout
        0xD2800003,  # mov x3, 0: no signal mask
        0xD2800004,  # mov x4, 0
        0xD2800928,  # mov x8, 73 (ppoll)
        0xD4000001,  # svc 0
        0x17FFFFF9,  # b to the first
    )
)
_PROGRAMS = {"amd64": (62, _AMD64), "x86_64": (62, _AMD64), "arm64": (183, _ARM64), "aarch64": (183, _ARM64)}
"""By architecture as engines and kernels call it: the number of the machine in ELF, and the code."""


_making = threading.Lock()
"""Each import makes another image of that name, and leaves the one before without any."""


def make_image(api: docker.APIClient, architecture: str) -> None:
    """Have the image on this engine. Raises ``StartError`` where its architecture has no program here."""
    if _is_there(api):
        return
    with _making:
        if not _is_there(api):
            _import(api, architecture)


def _is_there(api: docker.APIClient) -> bool:
    try:
        api.inspect_image(IMAGE)  # type: ignore[no-untyped-call]
    except docker.errors.NotFound:
        return False
    return True


def _import(api: docker.APIClient, architecture: str) -> None:
    image = image_tar(architecture)
    if image is None:
        raise StartError(
            f"several containers of a group share a network only on amd64 and arm64; this engine is {architecture}",
            permanent=True,
        )
    api.import_image_from_data(image, repository=REPOSITORY, tag=TAG, changes=list(CHANGES))


def image_tar(architecture: str) -> bytes | None:
    """The files of the image as a tar archive; None for an architecture that has no program here."""
    known = _PROGRAMS.get(architecture)
    if known is None:
        return None
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        program = _elf(*known)
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return made.getvalue()


def _elf(machine: int, code: bytes) -> bytes:
    """A static 64-bit little-endian program that is loaded whole and begins after its headers."""
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code

"""A small image where no particular one is asked for: a local one, else pulled, else a static busybox imported.

Owns: choosing and, if need be, making it. The rule: it says which way it went; what was there is never changed.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.contract.errors import NotFoundError
from orchestrator.ops.engine import Engine, EngineError

OWN = "raftsman-test:busybox"
LOCAL = (OWN, "busybox:stable", "busybox:latest", "busybox:1.36")
PULLED = "busybox:1.36"
PULL_TIMEOUT_S = 20.0
APPLETS = (
    "[", "awk", "basename", "cat", "chmod", "cp", "cut", "date", "dd", "dirname", "echo", "env", "expr",
    "false", "find", "grep", "gunzip", "gzip", "head", "hostname", "httpd", "id", "kill", "ln", "ls", "mkdir",
    "mv", "nc", "nproc", "od", "printenv", "printf", "ps", "pwd", "rm", "sed", "seq", "sh", "sleep", "sort",
    "stat", "sync", "tail", "tar", "tee", "test", "top", "touch", "tr", "true", "uname", "uniq", "wc", "wget",
    "which", "xargs", "yes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    how: str  # one line for people: "local image busybox:latest"


async def find_or_make(engine: Engine, given: str = "") -> Image:
    """The image to use. Raises ``NotFoundError`` when ``given`` cannot be had, or nothing can."""
    if given:
        if not await engine.has_image(given):
            try:
                await engine.pull(given, 120.0)
            except EngineError as error:
                raise NotFoundError(f"image {given} is not here and cannot be pulled: {error.message}") from None
            return Image(given, f"image {given}, pulled as asked")
        return Image(given, f"image {given}, as asked")
    for name in LOCAL:
        if await engine.has_image(name):
            return Image(name, f"local image {name}")
    busybox = static_busybox()
    try:
        await engine.pull(PULLED, PULL_TIMEOUT_S)
        return Image(PULLED, f"image {PULLED}, pulled")
    except EngineError as error:
        if busybox is None:
            raise NotFoundError(
                f"no image: {PULLED} cannot be pulled ({error.message}) and no static busybox is installed"
            ) from None
    await engine.import_image(busybox_root(busybox), OWN, changes=('CMD ["sh"]', "ENV PATH=/bin"))
    return Image(OWN, f"image {OWN}, imported from {busybox}")


def static_busybox() -> Path | None:
    """A busybox on this machine that needs no libraries, or None."""
    found = shutil.which("busybox")
    if found is None:
        return None
    try:
        listing = subprocess.run([found, "--list"], capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(found) if _is_static(Path(found).read_bytes()) and "httpd" in listing.split() else None


def _is_static(elf: bytes) -> bool:
    """Whether a 64-bit ELF file names no interpreter (program header of type PT_INTERP)."""
    if elf[:5] != b"\x7fELF\x02":
        return False
    order = "<" if elf[5] == 1 else ">"
    (offset,) = struct.unpack_from(order + "Q", elf, 32)
    size, count = struct.unpack_from(order + "HH", elf, 54)
    interpreter = 3
    return all(struct.unpack_from(order + "I", elf, offset + i * size)[0] != interpreter for i in range(count))


def busybox_root(busybox: Path, files: dict[str, bytes] | None = None) -> bytes:
    """A root file system with busybox, its applets and ``files`` (absolute path: content), as an uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc", "tmp", "var", "var/www"):
            _add(tar, name, kind=tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755)
        _add(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in APPLETS:
            _add(tar, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        _add(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        for path, content in (files or {}).items():
            _add(tar, path.lstrip("/"), content)
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile,
    name: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    link: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, len(content), link
    tar.addfile(info, io.BytesIO(content))

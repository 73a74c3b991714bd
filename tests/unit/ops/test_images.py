"""Which image is taken, and that the one made from a static busybox is a root file system that can run."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

import pytest

from orchestrator.contract.errors import NotFoundError
from orchestrator.ops import images
from orchestrator.ops.engine import EngineError


class FakeEngine:
    """Remembers what was pulled and imported; knows ``local`` images and those of a ``registry``."""

    def __init__(self, local: set[str], registry: set[str]) -> None:
        self.local, self.registry = local, registry
        self.imported: dict[str, bytes] = {}

    async def has_image(self, image: str) -> bool:
        return image in self.local

    async def pull(self, image: str, timeout_s: float) -> None:
        if image not in self.registry:
            raise EngineError(f"pull of {image}: no such host")
        self.local.add(image)

    async def import_image(self, tar: bytes, image: str, changes: tuple[str, ...] = ()) -> None:
        self.imported[image] = tar


def elf(*program_headers: int) -> bytes:
    """A 64-bit little-endian ELF header with these program header types."""
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, len(program_headers))
    return bytes(head) + b"".join(struct.pack("<I", kind) + bytes(52) for kind in program_headers)


@pytest.fixture
def busybox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "busybox"
    path.write_bytes(elf(1, 1))
    monkeypatch.setattr(images, "static_busybox", lambda: path)
    return path


@pytest.mark.parametrize(
    ("given", "local", "registry", "name", "how"),
    [
        ("mine:1", {"mine:1", images.OWN}, set(), "mine:1", "image mine:1, as asked"),
        ("mine:1", set(), {"mine:1"}, "mine:1", "image mine:1, pulled as asked"),
        ("", {"busybox:latest"}, {images.PULLED}, "busybox:latest", "local image busybox:latest"),
        ("", {"busybox:latest", images.OWN}, set(), images.OWN, f"local image {images.OWN}"),
        ("", set(), {images.PULLED}, images.PULLED, f"image {images.PULLED}, pulled"),
        ("", set(), set(), images.OWN, f"image {images.OWN}, imported from "),
    ],
    ids=["given and here", "given and pulled", "local before registry", "own first", "pulled", "imported"],
)
async def test_the_image_is_the_first_that_can_be_had(
    busybox: Path, given: str, local: set[str], registry: set[str], name: str, how: str
) -> None:
    found = await images.find_or_make(FakeEngine(local, registry), given)  # type: ignore[arg-type]
    assert found.name == name
    assert found.how.startswith(how)


async def test_a_given_image_is_never_replaced_by_another(busybox: Path) -> None:
    with pytest.raises(NotFoundError, match="image mine:1 is not here and cannot be pulled: pull of mine:1: no such"):
        await images.find_or_make(FakeEngine({images.OWN}, set()), "mine:1")  # type: ignore[arg-type]


async def test_without_registry_and_busybox_it_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "static_busybox", lambda: None)
    with pytest.raises(NotFoundError, match=r"cannot be pulled .* and no static busybox is installed"):
        await images.find_or_make(FakeEngine(set(), set()))  # type: ignore[arg-type]


def test_the_root_file_system_has_busybox_its_applets_and_the_files(busybox: Path) -> None:
    data = images.busybox_root(busybox, {"/data/x.csv": b"a,b\n"})
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert members["bin/busybox"].mode == 0o755
        assert members["tmp"].mode == 0o1777
        assert {members[f"bin/{name}"].linkname for name in ("sh", "httpd", "awk", "sleep")} == {"busybox"}
        content = tar.extractfile("data/x.csv")
        assert content is not None
        assert content.read() == b"a,b\n"


@pytest.mark.parametrize(
    ("data", "static"),
    [(elf(1, 1), True), (elf(1, 3), False), (b"#!/bin/sh\n", False), (b"", False)],
    ids=["static", "with an interpreter", "a script", "empty"],
)
def test_a_busybox_that_needs_libraries_is_not_taken(data: bytes, static: bool) -> None:
    assert images._is_static(data) is static

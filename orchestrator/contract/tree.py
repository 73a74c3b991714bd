"""Files and directories as tar streams, both ways; used by clients and agents, with nothing but the standard library.

Owns: ``pack``, ``unpack``, and where a copy lands (``landing``). Leaves to others: whose rights count (the process that
calls). The rules: permissions and times are kept, owners are not, and neither are set-user-id bits. Nothing is ever
written outside of the destination: every directory on the way is opened without following links, names that climb out
are refused, links that lead out of the tree are left out and said so (unless the destination is a task's own files).
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, cast

CHUNK = 256 * 1024
BLOCK = tarfile.BLOCKSIZE
UNSIZED_MAX = 64 << 20
"""Of a file that does not say its size: it is read before its header is written."""
SKIPPED_MAX = 100
KEPT_MODE = 0o777


class TreeError(Exception):
    """It cannot be copied; ``reason`` is a stable code (``contract.errors``), the text names the place."""

    def __init__(self, text: str, *, reason: str = "FAILED_PRECONDITION") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a copy should go, as the user said it, and what is copied (``name``; ``directory``: a tree).

    ``contents``: what is in the tree goes there, without the tree itself.
    """

    path: str
    name: str
    directory: bool
    contents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """``directory`` must exist; ``name`` is what the copied thing is called there, "." for the directory itself."""

    directory: str
    name: str


@dataclass(slots=True, kw_only=True)
class Copied:
    """What was copied; ``skipped``: what was not, and why (the first hundred)."""

    files: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)

    def skip(self, text: str) -> None:
        if len(self.skipped) < SKIPPED_MAX:
            self.skipped.append(text)


def landing(target: Target, *, exists: bool, is_directory: bool) -> Landing:
    """Where a copy lands, as ``cp -r`` and ``docker cp`` do it: in an existing directory under its own name, else as
    ``path`` itself, whose parent must exist. ``exists`` and ``is_directory`` are about ``path``.

    Raises ``TreeError``.
    """
    path = target.path.rstrip("/") or "/"
    if is_directory:
        return Landing(directory=path, name="." if target.contents else target.name)
    if exists and target.directory:
        raise TreeError(f"{target.path} is a file: a directory cannot be copied onto it", reason="INVALID")
    if target.path.endswith("/") and not target.directory:
        raise TreeError(f"there is no directory {target.path}", reason="NOT_FOUND")
    return Landing(directory=posixpath.dirname(path) or ".", name=posixpath.basename(path))


# ---------------------------------------------------------------------------- writing


def pack(path: str, name: str, copied: Copied) -> Iterator[bytes]:
    """A tar stream of the file or tree at ``path``, whose names begin with ``name``; ``copied`` is filled meanwhile.

    Raises ``TreeError``. A file that changes while it is read is cut or filled up to the size that it had. The kernel's
    own files (``/proc``, ``/sys``) say nothing true of their size: what can be read of them is copied, at most
    ``UNSIZED_MAX`` bytes.
    """
    held = bytearray()
    for piece in _pieces(path, name, copied):
        held += piece
        if len(held) >= CHUNK:
            yield bytes(held)
            held.clear()
    held += bytes(2 * BLOCK)
    yield bytes(held)


def _pieces(path: str, name: str, copied: Copied) -> Iterator[bytes]:
    waiting = [(path, name)]
    while waiting:
        here, called = waiting.pop()
        try:
            found = os.stat(here) if here is path else os.lstat(here)  # noqa: PTH116
            if stat.S_ISDIR(found.st_mode):
                yield _header(called, found, tarfile.DIRTYPE)
                inside = sorted(os.listdir(here), reverse=True)  # noqa: PTH208
                waiting += [(os.path.join(here, one), f"{called}/{one}") for one in inside]  # noqa: PTH118
            elif stat.S_ISREG(found.st_mode):
                with open(here, "rb", buffering=0, opener=_open) as file:
                    found = os.fstat(file.fileno())
                    try:
                        begun = _beginning(file.fileno(), found.st_size)
                    except OSError as error:
                        if here is path or found.st_size:
                            raise
                        copied.skip(f"{here}: {error.strerror}")  # of the kernel's files many can only be written
                        continue
                    size = found.st_size if len(begun) == CHUNK and found.st_size else len(begun)
                    yield _header(called, found, tarfile.REGTYPE, size=size)
                    yield from _content(begun, file, size)
                copied.files += 1
                copied.bytes += size
            elif stat.S_ISLNK(found.st_mode):
                yield _header(called, found, tarfile.SYMTYPE, os.readlink(here))  # noqa: PTH115
            else:
                copied.skip(f"{here}: neither a file nor a directory nor a link")
        except FileNotFoundError as error:
            if here is path:
                raise TreeError(f"there is no {path}", reason="NOT_FOUND") from error
            copied.skip(f"{here}: it went away meanwhile")
        except OSError as error:
            raise TreeError(f"cannot read {here}: {error.strerror}") from error


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # some of the kernel's files wait for what comes next


def _beginning(descriptor: int, size: int) -> bytes:
    """The file's first ``CHUNK``, no more than ``size``; of one that says that it is empty all that can be read."""
    wanted = min(size, CHUNK) or UNSIZED_MAX + 1
    found = bytearray()
    while len(found) < wanted and (piece := os.read(descriptor, min(wanted - len(found), CHUNK))):
        found += piece
    if len(found) > UNSIZED_MAX:
        raise OSError(errno.EFBIG, f"it does not say its size, and is larger than {UNSIZED_MAX >> 20} MiB")
    return bytes(found)


def _header(name: str, found: os.stat_result, kind: bytes, link: str = "", size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = stat.S_IMODE(found.st_mode) & KEPT_MODE
    info.mtime = int(found.st_mtime)
    info.size = size
    info.linkname = link
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(begun: bytes, file: IO[bytes], size: int) -> Iterator[bytes]:
    yield begun
    left = size - len(begun)
    while left > 0:
        piece = file.read(min(left, CHUNK)) or bytes(min(left, CHUNK))
        left -= len(piece)
        yield piece
    yield bytes(-size % BLOCK)


# ---------------------------------------------------------------------------- reading


def unpack(read: Callable[[int], bytes], directory: str, name: str, *, any_links: bool = False) -> Copied:
    """Write a tar stream of one file or tree into ``directory``, where it is called ``name`` (".": its contents go into
    the directory itself). ``read(n)`` gives up to n bytes, b"" at the end. ``any_links``: also links that lead out of
    the tree, for a destination whose owner could make them himself. Raises ``TreeError``."""
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise TreeError(f"{directory}: {error.strerror}", reason="NOT_FOUND") from error
    try:
        return _Unpacker(root, name, any_links).run(read)
    finally:
        os.close(root)


class _Stream:
    """What ``tarfile`` wants to read from."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (piece := self._read(size - len(data))):
            data += piece
        return data


class _Unpacker:
    def __init__(self, root: int, name: str, any_links: bool) -> None:
        self._root = root
        self._any_links = any_links
        self._name = name
        self._copied = Copied()
        self._directories: list[tuple[list[str], tarfile.TarInfo]] = []

    def run(self, read: Callable[[int], bytes]) -> Copied:
        try:
            with tarfile.open(fileobj=cast(IO[bytes], _Stream(read)), mode="r|") as tar:
                while (member := tar.next()) is not None:
                    cast(list[tarfile.TarInfo], tar.members).clear()  # type: ignore[attr-defined]
                    self._take(tar, member)
        except tarfile.TarError as error:
            raise TreeError(f"what came is no tar stream: {error}", reason="INVALID") from error
        for parts, member in reversed(self._directories):  # last: one without write permission takes nothing more
            self._finish_directory(parts, member)
        return self._copied

    def _parts(self, name: str) -> list[str]:
        """Below the destination; [] is the tree itself when that goes into the directory as it is."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise TreeError(f"refused: {name!r} would be written outside of the destination", reason="INVALID")
        if name.split("/")[0] == ".":
            parts = [".", *parts]  # as `tar -C DIR .` writes it: "." is the tree
        return parts[1:] if self._name == "." else [self._name, *parts[1:]]

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = self._parts(member.name)
        where = "/".join(parts)
        if not parts:
            if not member.isdir():
                raise TreeError("refused: the contents of something that is no directory", reason="INVALID")
            return
        try:
            with self._parent(parts) as parent:
                self._place(tar, member, parts, parent)
        except OSError as error:
            raise TreeError(f"cannot write {where}: {error.strerror}") from error

    def _place(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: list[str], parent: int) -> None:
        last, where = parts[-1], "/".join(parts)
        if member.isdir():
            with contextlib.suppress(FileExistsError):
                os.mkdir(last, 0o700, dir_fd=parent)
            os.close(_enter(parent, last, where))
            self._directories.append((parts, member))
            return
        if member.isreg():
            self._remove(last, parent, where)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            with open(os.open(last, flags, 0o600, dir_fd=parent), "wb") as file:
                source = tar.extractfile(member)
                while source is not None and (piece := source.read(CHUNK)):
                    file.write(piece)
                file.flush()
                os.fchmod(file.fileno(), member.mode & KEPT_MODE)
                os.utime(file.fileno(), (member.mtime, member.mtime))
            self._copied.files += 1
            self._copied.bytes += member.size
        elif member.issym():
            if not self._any_links and self._leads_out(parts, member.linkname):
                self._copied.skip(f"{where}: a link to {member.linkname}, which is outside of what is copied")
                return
            self._remove(last, parent, where)
            os.symlink(member.linkname, last, dir_fd=parent)
        elif member.islnk():
            source_parts = self._parts(member.linkname)
            with self._parent(source_parts) as other:
                self._remove(last, parent, where)
                os.link(source_parts[-1], last, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            self._copied.files += 1
        else:
            self._copied.skip(f"{where}: neither a file nor a directory nor a link")

    def _leads_out(self, parts: list[str], link: str) -> bool:
        """Whether a symbolic link leaves the tree, judged by names alone."""
        top = [] if self._name == "." else [self._name]
        target = posixpath.normpath(posixpath.join("/".join(parts[:-1]), link))
        steps = target.split("/")
        return link.startswith("/") or steps[0] == ".." or (bool(top) and steps[:1] != top)

    @contextlib.contextmanager
    def _parent(self, parts: list[str]) -> Iterator[int]:
        """The directory that holds the last of ``parts``, without following links; made if missing."""
        here = os.dup(self._root)
        try:
            for place, part in enumerate(parts[:-1]):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                below = _enter(here, part, "/".join(parts[: place + 1]))
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    def _remove(self, name: str, parent: int, where: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError) as error:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise TreeError(f"{where} is a directory: a file cannot replace it", reason="INVALID") from error
            raise

    def _finish_directory(self, parts: list[str], member: tarfile.TarInfo) -> None:
        with contextlib.suppress(OSError), self._parent(parts) as parent:
            fd = _enter(parent, parts[-1], "/".join(parts))
            try:
                os.fchmod(fd, member.mode & KEPT_MODE)
                os.utime(fd, (member.mtime, member.mtime))
            finally:
                os.close(fd)


def _enter(parent: int, name: str, where: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except NotADirectoryError as error:
        raise TreeError(f"{where} is not a directory, and links are not followed", reason="INVALID") from error
    except OSError as error:
        raise TreeError(f"cannot open {where}: {error.strerror}") from error

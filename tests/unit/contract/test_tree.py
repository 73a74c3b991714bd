"""Trees as tar streams: what goes in comes out, and nothing comes out anywhere else."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.contract import tree
from orchestrator.contract.tree import CHUNK, Copied, Landing, Target, TreeError, landing, pack, unpack


def packed(path: Path, name: str = "t") -> bytes:
    return b"".join(pack(str(path), name, Copied()))


def unpacked(data: bytes, directory: Path, name: str = "t", **more: bool) -> Copied:
    return unpack(io.BytesIO(data).read, str(directory), name, **more)


def made(*members: tuple[str, bytes, str, bytes]) -> bytes:
    """A tar stream by hand: (name, type, link, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, link, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def test_a_tree_comes_out_as_it_went_in(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "empty").mkdir(parents=True)
    (source / "a" / "big").write_bytes(os.urandom(2 * CHUNK + 7))
    (source / "run").write_text("x")
    (source / "run").chmod(0o4751)
    (source / "ä\udcff").write_text("a name that is no text")
    (source / "link").symlink_to("a/big")
    (source / "a").chmod(0o555)
    os.utime(source / "run", (1_000_000, 1_000_000))
    out = tmp_path / "out"
    out.mkdir()
    copied = unpacked(packed(source), out, "other")
    assert (copied.files, copied.skipped) == (3, [])
    found = out / "other"
    assert (found / "a" / "big").read_bytes() == (source / "a" / "big").read_bytes()
    assert (found / "link").readlink() == Path("a/big")
    assert (found / "a" / "empty").is_dir()
    assert (found / "ä\udcff").read_text() == "a name that is no text"
    assert stat.S_IMODE((found / "run").stat().st_mode) == 0o751, "without set-user-id"
    assert stat.S_IMODE((found / "a").stat().st_mode) == 0o555
    assert (found / "run").stat().st_mtime == 1_000_000


def kernel_file(kind: str) -> Path:
    """A file whose content has another length than it says: none, or more than there is."""
    for path in (
        Path("/proc/version"),
        *sorted(Path("/sys/kernel/mm").rglob("enabled")),
        Path("/sys/kernel/profiling"),
    ):
        if path.is_file() and (path.stat().st_size == 0) == (kind == "none") and path.read_bytes():
            return path
    pytest.skip(f"this machine has no file with {kind}")


@pytest.mark.parametrize("kind", ["none", "more"])
def test_files_of_the_kernel_come_out_as_they_are_read(tmp_path: Path, kind: str) -> None:
    path = kernel_file(kind)
    copied = Copied()
    unpacked(b"".join(pack(str(path), "t", copied)), tmp_path, "here")
    assert (tmp_path / "here").read_bytes() == path.read_bytes()
    assert copied.bytes == len(path.read_bytes())


def test_a_file_of_no_size_is_bounded_and_within_a_tree_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "UNSIZED_MAX", 4)
    path = kernel_file("none")
    with pytest.raises(TreeError, match=f"cannot read {path}: it does not say its size, and is larger than"):
        packed(path)
    copied = Copied()
    for _ in pack("/proc/self/net", "t", copied):
        pass
    assert any(text.startswith("/proc/self/net/") and "larger" in text for text in copied.skipped)


def test_contents_go_into_the_directory_itself(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "f").write_text("x")
    unpacked(packed(source), out, ".")
    assert (out / "f").read_text() == "x"
    with pytest.raises(TreeError, match="contents of something that is no directory"):
        unpacked(packed(source / "f"), out, ".")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([("t/../../evil", tarfile.REGTYPE, "", b"x")], id="climbs out"),
        pytest.param([("/evil", tarfile.REGTYPE, "", b"x")], id="absolute"),
        pytest.param([("..", tarfile.DIRTYPE, "", b"")], id="the parent"),
        pytest.param(
            [("t/l", tarfile.SYMTYPE, "sub", b""), ("t/l/evil", tarfile.REGTYPE, "", b"x")], id="through a link"
        ),
        pytest.param(
            [("t", tarfile.SYMTYPE, "..", b""), ("t/evil", tarfile.REGTYPE, "", b"x")], id="the tree is a link"
        ),
        pytest.param([("t/h", tarfile.LNKTYPE, "../../secret", b"")], id="hard link out"),
        pytest.param([("t/h", tarfile.LNKTYPE, "/etc/passwd", b"")], id="absolute hard link"),
    ],
)
@pytest.mark.parametrize("any_links", [False, True])
def test_nothing_is_written_outside(
    tmp_path: Path, members: list[tuple[str, bytes, str, bytes]], any_links: bool
) -> None:
    out = tmp_path / "in" / "out"
    out.mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    before = sorted(tmp_path.rglob("*"))
    try:
        unpacked(made(*members), out, any_links=any_links)
    except TreeError as error:
        assert "outside" in str(error) or "links are not followed" in str(error) or "is a" in str(error), error
    inside = {path for path in tmp_path.rglob("*") if out in path.parents}
    assert sorted(set(tmp_path.rglob("*")) - inside) == before
    assert not [path for path in inside if path.name == "evil" and path.parent.resolve() != out / "t"]


def test_links_out_of_the_tree_are_left_out_and_named(tmp_path: Path) -> None:
    data = made(
        ("t", tarfile.DIRTYPE, "", b""),
        ("t/a", tarfile.SYMTYPE, "/etc/passwd", b""),
        ("t/b", tarfile.SYMTYPE, "../x", b""),
        ("t/c/d", tarfile.SYMTYPE, "../b2", b""),
        ("t/fifo", tarfile.FIFOTYPE, "", b""),
    )
    copied = unpacked(data, tmp_path)
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["c"]
    assert (tmp_path / "t" / "c" / "d").is_symlink()
    assert [text.split(":")[0] for text in copied.skipped] == ["t/a", "t/b", "t/fifo"]
    assert len(unpacked(data, tmp_path, "other", any_links=True).skipped) == 1
    assert (tmp_path / "other" / "a").readlink() == Path("/etc/passwd")


def test_a_file_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    out.mkdir()
    outside.write_text("kept")
    (out / "t").symlink_to(outside)
    unpacked(made(("t", tarfile.REGTYPE, "", b"new")), out)
    assert outside.read_text() == "kept"
    assert not (out / "t").is_symlink()


@pytest.mark.parametrize(
    ("prepare", "members", "said"),
    [
        (lambda out: (out / "t").write_text(""), [("t", tarfile.DIRTYPE, "", b"")], "is not a directory"),
        (lambda out: (out / "t").mkdir(), [("t", tarfile.REGTYPE, "", b"x")], "a file cannot replace it"),
    ],
)
def test_what_is_in_the_way_is_named(
    tmp_path: Path, prepare: Callable[[Path], object], members: list[tuple[str, bytes, str, bytes]], said: str
) -> None:
    prepare(tmp_path)
    with pytest.raises(TreeError, match=said):
        unpacked(made(*members), tmp_path)


def test_errors_name_the_place(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"there is no .*nowhere"):
        packed(tmp_path / "nowhere")
    with pytest.raises(TreeError, match="nowhere: No such file"):
        unpacked(b"", tmp_path / "nowhere")
    with pytest.raises(TreeError, match="no tar stream"):
        unpacked(b"x" * 2000, tmp_path)


@pytest.mark.parametrize(
    ("path", "directory", "contents", "there", "lands"),
    [
        ("/d", False, False, "directory", Landing(directory="/d", name="n")),
        ("/d/", True, False, "directory", Landing(directory="/d", name="n")),
        ("/d", True, True, "directory", Landing(directory="/d", name=".")),
        ("/d/f", False, False, "file", Landing(directory="/d", name="f")),
        ("/d/new", True, False, "", Landing(directory="/d", name="new")),
        ("/d/new/", True, True, "", Landing(directory="/d", name="new")),
        ("new", False, False, "", Landing(directory=".", name="new")),
        ("/", False, False, "directory", Landing(directory="/", name="n")),
        ("/d/f", True, False, "file", "a directory cannot be copied onto it"),
        ("/d/new/", False, False, "", "there is no directory /d/new/"),
    ],
)
def test_a_copy_lands_where_cp_would_put_it(
    path: str, directory: bool, contents: bool, there: str, lands: Landing | str
) -> None:
    target = Target(path=path, name="n", directory=directory, contents=contents)
    if isinstance(lands, str):
        with pytest.raises(TreeError, match=lands):
            landing(target, exists=bool(there), is_directory=there == "directory")
    else:
        assert landing(target, exists=bool(there), is_directory=there == "directory") == lands


_NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, blacklist_characters="/"), min_size=1, max_size=20
)


@given(
    st.dictionaries(
        st.lists(_NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join),
        st.binary(max_size=2000),
        max_size=6,
    )
)
def test_any_files_come_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    source = tmp_path_factory.mktemp("source")
    out = tmp_path_factory.mktemp("out")
    written = {}
    for name, content in files.items():
        place = source / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        written[name] = content
    unpacked(packed(source), out)
    assert {str(path.relative_to(out / "t")): path.read_bytes() for path in out.rglob("*") if path.is_file()} == written

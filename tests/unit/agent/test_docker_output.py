"""Output of a container as the engine sends it: every line once, though the engine repeats some."""

from __future__ import annotations

import io
from types import SimpleNamespace

from agent.drivers.docker_output import REPEATED, _frames, _once

SECOND = 1_000_000_000


def stream(*lines: tuple[int, bytes], stderr: bool = False) -> bytes:
    """Frames of the engine; times are in nanoseconds after noon."""
    made = b""
    for ns, said in lines:
        data = f"2026-11-27T12:00:{ns // SECOND:02}.{ns % SECOND:09}Z ".encode() + said
        made += bytes((2 if stderr else 1, 0, 0, 0)) + len(data).to_bytes(4, "big") + data
    return made


def read(data: bytes) -> list[bytes]:
    response = SimpleNamespace(raw=io.BytesIO(data))
    return [said for _, _, said in _once(_frames(response))]


def test_lines_that_come_again_where_a_file_begins_are_there_once() -> None:
    lines = [(n, b"line %d\n" % n) for n in range(30)]
    assert read(stream(*lines[:20], *lines[13:])) == [said for _, said in lines]
    assert read(stream(*lines[:20], *lines[19:])) == [said for _, said in lines], "the last one alone"


def test_equal_lines_at_other_times_and_of_the_other_stream_are_lines_of_their_own() -> None:
    assert read(stream((1, b"tick\n"), (2, b"tick\n"))) == [b"tick\n"] * 2
    assert read(stream((1, b"tick\n")) + stream((1, b"tick\n"), stderr=True)) == [b"tick\n"] * 2


def test_equal_pieces_of_a_long_line_stay_and_come_once() -> None:
    long = [(5, b"a" * 100), (5, b"a" * 100), (5, b"a\n")]
    assert read(stream(*long)) == [said for _, said in long]
    after = [(6, b"b\n"), (7, b"c\n")]
    assert read(stream(*long, after[0], *long, *after)) == [said for _, said in (*long, *after)]


def test_what_is_remembered_of_lines_is_bounded() -> None:
    lines = [(n, b"line %d\n" % n) for n in range(3 * REPEATED)]
    assert read(stream(*lines, *lines[-REPEATED:])) == [said for _, said in lines]
    assert len(read(stream(*lines, lines[0]))) == len(lines) + 1, "so far back nothing is known of"

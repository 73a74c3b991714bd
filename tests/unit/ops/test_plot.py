"""Plots are well-formed, and draw what they are given."""

from __future__ import annotations

from xml.etree import ElementTree

from orchestrator.ops import plot

SVG = "{http://www.w3.org/2000/svg}"


def points(drawn: ElementTree.Element) -> list[list[tuple[float, float]]]:
    found = (line.attrib["points"].split() for line in drawn.iter(f"{SVG}polyline"))
    return [[(float(x), float(y)) for x, y in (point.split(",") for point in line)] for line in found]


def texts(drawn: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in drawn.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_figures_and_have_them_beside() -> None:
    panels: list[plot.Bars] = [
        ("used & free", "%", [("now", 50.0), ("b<c>", 100.0), ("unknown", None)]),
        ("none", "", [("now", None)]),
    ]
    drawn = ElementTree.fromstring(plot.bars("title", panels, grey="now"))
    rows = [row for row in drawn.iter(f"{SVG}rect") if row.attrib["fill"] != "white"]
    assert [float(row.attrib["width"]) for row in rows] == [210.0, 420.0]
    assert [row.attrib["fill"] for row in rows] == [plot.GREY, plot.COLOURS[0]]
    said = texts(drawn)
    assert said[0] == "title"
    assert {"used & free", "b<c>", "50.0 %", "100.0 %", "unknown"} <= set(said)
    assert "none" not in said, "a panel without any figure is left out"


def test_lines_over_time_share_the_axis_and_begin_at_zero() -> None:
    drawn = ElementTree.fromstring(
        plot.lines_over_time("t", {"MiB": {"p1": [(0, 0), (10, 100)]}, "files": {"p1": [(5, 7)]}})
    )
    (first, second) = points(drawn)
    bottom = plot.TOP + plot.HEIGHT
    assert first[0] == (float(plot.LEFT), float(bottom))
    assert [x for x, _ in (*first, *second)] == [plot.LEFT, plot.LEFT + plot.WIDTH, plot.LEFT + plot.WIDTH / 2]
    assert "10 s" in texts(drawn)


def test_curves_fill_their_square_and_nothing_is_no_error() -> None:
    drawn = ElementTree.fromstring(plot.curves("t", "across", "up", {"a": [(80, 90), (130, 96)], "b": [(100, 93)]}))
    assert points(drawn)[0] == [(70.0, 520.0), (550.0, 40.0)]
    assert {"across", "up", "80", "130", "96.0"} <= set(texts(drawn))
    assert points(ElementTree.fromstring(plot.curves("t", "across", "up", {}))) == []

"""The demo's page and table, from figures made up here: no training, no simulation."""

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from sim.charts import bars, lines, picture, ticks
from sim.page import mosaic, render, rows, table
from tests.sim.figures import examples, summary

VOID = {"meta", "img", "br"}


class Balance(HTMLParser):
    """Fails unless every tag is closed in order; collects attributes that load something."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_needs_nothing_from_outside():
    text = render(summary(), examples())
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert not parser.open
    assert parser.sources and all(s.startswith("data:image/png;base64,") for s in parser.sources)
    assert "http" not in text and "<script" not in text and "url(" not in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    assert "nan" not in text


def test_page_says_what_was_found():
    text = render(summary(), examples())
    assert "No physical board was involved" in text
    assert "tiny &lt;net&gt;" in text and "tiny <net>" not in text
    assert "prefers-color-scheme: dark" in text
    for value in ("99.72%", "99.44%", "99.17%", "80.00%", "24,000", "26.5 MHz"):
        assert value in text
    assert "equals the golden model" in text and "verdict bad" not in text


def test_page_and_table_show_a_difference():
    bad = summary(differences=["frame 0 conv1: 1 of 64 values differ"])
    text = render(bad, examples())
    assert "verdict bad" in text and "equals the golden model" not in text
    assert "frame 0 conv1" in text
    assert "1 DIFFER" in table(bad)


def test_table_has_aligned_columns_and_every_result():
    lines_ = table(summary()).splitlines()
    names = [row[0] for row in rows(summary())]
    assert [line.split("  ")[0].strip() for line in lines_] == names
    assert {"float accuracy", "golden accuracy", "RTL accuracy", "agreement", "cycles a frame",
            "frames/s", "LUT4", "BRAM", "SPRAM", "DSP", "fmax"} <= set(names)
    no_spram = summary()
    del no_spram["bitstream"]["spram"]
    assert "SPRAM" not in table(no_spram)


def test_mosaic_places_every_map():
    maps = np.zeros((5, 2, 2), np.uint8)
    maps[4, 1, 0] = 1
    picture_ = mosaic(maps, 8)
    assert picture_.shape == (4, 8)
    assert np.argwhere(picture_).tolist() == [[3, 0]]


def test_picture_holds_its_pixels():
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    pixels[..., 3] = 255
    tag = picture(pixels, 'a "b"', 3)
    assert 'width="12" height="6"' in tag and "&quot;b&quot;" in tag
    data = base64.b64decode(re.search("base64,([^\"]*)", tag)[1])
    assert (imread(io.BytesIO(data)) * 255).round().astype(int).tolist() == pixels.tolist()


@pytest.mark.parametrize(
    "low, high", [(0, 1), (0.03, 2.3), (99, 99), (-3, 5), (0, 0), (1e5, 3e5), (0.0, 1e-4)]
)
def test_ticks_cover_the_range(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-12 and marks[-1] >= high - 1e-12
    assert 2 <= len(marks) <= 7
    assert len(set(np.round(np.diff(marks), 9))) == 1


def test_charts_draw_flat_and_single_values():
    for svg in (lines("t", {"a": [(1, 0.0)]}, "x"), bars("t", [("a", 0, "none")])):
        assert "nan" not in svg
        ElementTree.fromstring(re.search("<svg.*</svg>", svg)[0])

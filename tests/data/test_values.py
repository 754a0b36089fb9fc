"""Declared raw values and what happens to others."""

from pathlib import Path

import numpy as np
import pytest

from strays.data.values import LabelMap, MaskMap, histogram
from strays.errors import InputError

PATH = Path("masks/7.png")


def test_masks_are_converted_by_declaration() -> None:
    declared = MaskMap(inlier=(0, 3), anomaly=range(4, 9), ignore=(255, 1))
    raw = np.array([[0, 1, 3], [4, 8, 255]], np.uint8)
    assert declared.convert(raw, PATH).tolist() == [[0, 255, 0], [1, 1, 255]]
    assert declared.convert(raw, PATH).dtype == np.uint8


def test_labels_are_converted_by_declaration() -> None:
    declared = LabelMap({7: 0, 8: 1, 0: 255})
    assert declared.convert(np.array([[0, 7, 8]], np.uint8), PATH).tolist() == [[255, 0, 1]]


def test_an_undeclared_value_names_file_value_pixels_and_fix() -> None:
    raw = np.zeros((40, 50), np.uint8)
    raw[:30, :50] = 7
    message = r"masks/7\.png: undeclared value 7 \(1,500 pixels\) in the anomaly mask"
    with pytest.raises(InputError, match=message) as caught:
        MaskMap().convert(raw, PATH)
    text = str(caught.value)
    assert text.startswith("masks/7.png: ")
    assert "expected 0 inlier, 1 anomaly, 255 ignore; " in text
    assert text.endswith("map these values to declared ones and save it again")


def test_many_undeclared_values_are_a_smoothed_map() -> None:
    raw = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with pytest.raises(
        InputError, match=r"11 \(1 pixels\), .* and 239 more .* classes 0-10, ignore 255; .*use the orig"
    ):
        LabelMap.indices(11).convert(raw, PATH)


def test_hints_say_what_a_value_probably_is() -> None:
    declared = MaskMap(hints={2: "2 is what another set uses: open it as other=PATH"})
    with pytest.raises(InputError, match=r"; 2 is what another set uses: open it as other=PATH$"):
        declared.convert(np.array([[0, 2]], np.uint8), PATH)


def test_a_value_has_one_meaning() -> None:
    with pytest.raises(InputError, match=r"mask values \[0\] are declared with two meanings; give each value one"):
        MaskMap(inlier=(0,), ignore=(0, 255))
    with pytest.raises(InputError, match=r"from 0 to 255, got \[-1\]"):
        MaskMap(ignore=(-1,))


def test_counts_convert_like_pixels() -> None:
    raw = np.random.default_rng(0).integers(0, 12, (30, 40), dtype=np.uint8)
    declared = LabelMap.indices(11, ignore=(11,))
    assert (histogram(raw) == np.bincount(raw.ravel(), minlength=256)).all()
    after = np.bincount(declared.convert(raw, PATH).ravel(), minlength=256)
    assert (declared.converted(histogram(raw)) == after).all()

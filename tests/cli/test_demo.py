"""``strays demo``: everything, with nothing at hand."""

import json

import numpy as np
from PIL import Image


def test_the_demo_gives_pictures_numbers_and_a_page(strays, tmp_path) -> None:
    out = tmp_path / "demo"
    answer = strays("demo", "--count", "2", "--out", out)
    assert answer.code == 0
    for part in ("images", "masks"):
        assert len(list((out / "scenes" / part).glob("*.png"))) == 2
    images = json.loads((out / "scored/index.json").read_text())["images"]
    assert len(images) == 2
    for one in images:
        scores = np.load(out / "scored" / one["score"])
        assert scores.std() > 0
        assert Image.open(out / "scored" / one["overlay"]).width == scores.shape[1]
    rows = json.loads((out / "benchmark/results.json").read_text())["rows"]
    assert [one["detector"] for one in rows] == ["pebal", "energy", "entropy", "msp"]
    assert {one["protocol"]["images"] for one in rows} == {2}
    assert (out / "benchmark/report.html").stat().st_size > 100_000
    assert "energy" in answer.out
    for told in (f"open {out / 'benchmark/report.html'}", f"open {out / 'scored/overlays'}", "strays bench --data"):
        assert told in answer.err
    assert again_is_quiet(strays, out)
    assert strays("doctor", out / "scenes", "--quiet").code == 0, "the demo advises this command"


def again_is_quiet(strays, out) -> bool:
    """Run it once more into its own folder, with fewer scenes."""
    (out / "scenes/images/leftover.png").write_bytes(b"")
    answer = strays("demo", "--count", "1", "--out", out, "--quiet")
    assert len(list((out / "scenes/images").iterdir())) == 1
    return (answer.code, answer.err) == (0, "")


def test_it_never_empties_a_folder_of_somebody_else(strays, tmp_path) -> None:
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored/mine.npy").write_bytes(b"precious")
    answer = strays("demo", "--out", tmp_path)
    assert f"{tmp_path} holds files that are not those of a demo: choose another folder with --out" in answer.error
    assert (tmp_path / "scored/mine.npy").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["scored"]

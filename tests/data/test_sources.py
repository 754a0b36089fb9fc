"""Files, folders and globs; their order and their names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from strays.data.sources import find_images, natural_key
from strays.errors import InputError

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        return tmp_path

    return make


def names(*sources: str | Path) -> list[str]:
    return [source.name for source in find_images(sources)]


def test_a_folder_with_subfolders_in_natural_order(touch: Touch) -> None:
    root = touch(
        "img10.png", "img2.JPG", "a/9.webp", "b/x/1.tif", "a/10.bmp", "notes.txt", ".hidden/0.png", "._img2.jpg"
    )
    found = find_images([root])
    assert [source.path.relative_to(root).as_posix() for source in found] == [
        "img2.JPG",
        "img10.png",
        "a/9.webp",
        "a/10.bmp",
        "b/x/1.tif",
    ]
    assert [source.name for source in found] == ["img2", "img10", "9", "10", "1"]


def test_files_keep_their_order_and_count_once(touch: Touch) -> None:
    root = touch("b.png", "a.png", "c.dat")
    found = find_images([root / "b.png", str(root / "a.png"), root, root / "c.dat", root / ".." / root.name / "a.png"])
    assert [source.path.name for source in found] == ["b.png", "a.png", "c.dat"]


def test_globs(touch: Touch) -> None:
    root = touch("d/2.png", "d/10.png", "d/x.txt", "e/1.jpg", "odd[1].png")
    assert names(f"{root}/d/*") == ["2", "10"]
    assert names(f"{root}/*") == ["2", "10", "1", "odd[1]"]
    assert names(f"{root}/**/*.jpg") == ["1"]
    assert names(root / "odd[1].png") == ["odd[1]"]


def test_equal_stems_get_the_folders_above(touch: Touch) -> None:
    root = touch("day/1.png", "night/1.png", "day/2.png", "night/1.jpg")
    assert names(root) == ["day_1", "2", *[name for name in names(root) if "night" in name]]
    last = names(root)[2:]
    assert [name.rpartition("night_1_")[2] for name in last] == ["jpg", "png"]
    assert names(root / "day", root / "night" / "1.jpg") == ["day_1", "2", "night_1"]


def test_names_stay_unique_where_case_or_underscores_collide(touch: Touch) -> None:
    root = touch("a/A.png", "b/a.png", "x/y_z.png", "x_y/z.png", "w/x/y_z.png")
    found = [name.casefold() for name in names(root)]
    assert len(set(found)) == 5
    assert names(root) == names(root)


def test_links_do_not_loop(touch: Touch) -> None:
    root = touch("a/1.png")
    (root / "a" / "back").symlink_to(root, target_is_directory=True)
    assert names(root) == ["1"]


def test_a_linked_folder_is_followed(touch: Touch, tmp_path: Path) -> None:
    root = touch("elsewhere/1.png", "here/2.png")
    (root / "here" / "more").symlink_to(root / "elsewhere", target_is_directory=True)
    assert names(root / "here") == ["2", "1"]


def test_nothing_found_says_what_was_looked_for(touch: Touch) -> None:
    root = touch("a.txt", "b.txt", "c.avi", "d/none")
    message = r"no images in .*: looked for files ending in \.bmp, \.jpeg, .*, found 2 \.txt, 1 \.avi, 1 without suffix"
    with pytest.raises(InputError, match=message):
        find_images([root])
    with pytest.raises(InputError, match=r"found 2 \.txt$"):
        find_images([f"{root}/*.txt"])
    with pytest.raises(InputError, match="found no files at all"):
        find_images([f"{root}/*.webp"])
    (root / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images in .*empty: .*found no files at all"):
        find_images([root / "empty"])
    with pytest.raises(InputError, match="got none: name at least one"):
        find_images([])


def test_a_missing_path_names_the_nearest(touch: Touch) -> None:
    root = touch("drive_2021/1.png")
    with pytest.raises(InputError, match=r"no file or folder .*drive_2012; did you mean .*drive_2021\?"):
        find_images([root / "drive_2012"])
    with pytest.raises(InputError, match=r"no file or folder .*zzz/1\.png; .* exists, zzz in it does not"):
        find_images([root / "zzz" / "1.png"])


def test_natural_order_mixes_numbers_and_words() -> None:
    assert sorted(["b", "2", "a10", "10", "a2", "a"], key=natural_key) == ["2", "10", "a", "a2", "a10", "b"]

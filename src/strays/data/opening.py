"""Opening a data set from one string: a name, a path, or both."""

from collections.abc import Iterator
from pathlib import Path

from strays.data.base import DATASETS, DatasetReader, Recognition, SceneSet
from strays.data.sources import missing_path, natural_key, summarize_files
from strays.errors import InputError

__all__ = [
    "contents",
    "labelled_claims",
    "lookalikes",
    "nearby",
    "open_scenes",
    "parse_spec",
    "recognise",
    "sole_claim",
]

_LOOKED_INTO = 20
"""How many folders of one level are searched for a data set that lies deeper than the path says."""


def open_scenes(spec: str | Path, split: str | None = None) -> SceneSet:
    """Return the scenes that a data specification stands for.

    Args:
        spec: ``NAME=PATH`` with a registered name (``camvid=/data/camvid``); ``LABEL=PATH`` with any other word, by
            which results then call the set while its kind is recognised; a bare ``PATH``; ``synthetic`` or
            ``synthetic=COUNT``.
        split: which part of the data set; by default the one that is usually evaluated.

    Raises:
        InputError: if the path does not exist, nothing or more than one data set is recognised in it, the layout is not
            that of the named data set, or there is no such split.
    """
    name, path = parse_spec(spec)
    if name in DATASETS and not DATASETS[name].needs_folder:
        return DATASETS[name].open(path, split)
    if not path.exists():
        raise missing_path(path)
    if name in DATASETS:
        return _open_named(name, path, split)
    claim = sole_claim(path, recognise(path))
    opened = DATASETS[claim.dataset].open(path, split)
    return opened.renamed(name) if name else opened


def parse_spec(spec: str | Path) -> tuple[str, Path]:
    """Return name (or ``""``) and path of a data specification.

    Raises:
        InputError: if one side of ``NAME=PATH`` is empty.

    Example:
        >>> parse_spec("camvid=/data/camvid")
        ('camvid', PosixPath('/data/camvid'))
    """
    text = str(spec)
    path = Path(spec).expanduser()
    if isinstance(spec, Path) or path.exists():
        return "", path
    if "=" not in text:
        rendered = text in DATASETS and not DATASETS[text].needs_folder
        return (text, Path()) if rendered else ("", path)
    name, location = text.split("=", 1)
    if not (name and location):
        raise InputError(f"expected NAME=PATH or PATH for data, got {text!r}")
    return name, Path(location).expanduser()


def recognise(folder: Path, generic: bool = True) -> list[Recognition]:
    """Return the claims of all readers on a folder; where some are certain, those alone.

    Args:
        folder: what to look at; it is not searched for data sets further down. A JSON file declares one.
        generic: whether readers that take anybody's files are asked as well.
    """
    if not (folder.is_dir() or folder.suffix == ".json"):
        return []
    readers = [reader for reader in DATASETS.values() if generic or not reader.generic]
    claims = [claim for reader in readers if (claim := reader.recognise(folder)) is not None]
    certain = [claim for claim in claims if claim.certain]
    return certain or [claim for claim in claims if not DATASETS[claim.dataset].fallback] or claims


def sole_claim(folder: Path, claims: list[Recognition]) -> Recognition:
    """Return the one claim on a folder.

    Raises:
        InputError: if there is none, or more than one; says what was seen and how to name the data set.
    """
    if len(claims) == 1:
        return claims[0]
    if claims:
        seen = "; ".join(f"{claim.dataset}: {claim.evidence}" for claim in claims)
        ways = " or ".join(f"{claim.dataset}={folder}" for claim in claims)
        raise InputError(f"{folder} may be more than one data set ({seen}); say which: {ways}")
    raise InputError(f"no known data set in {folder}, which holds {contents(folder)}; {_way_out(folder)}")


def lookalikes(folder: Path) -> list[str]:
    """Return the data sets whose layout a folder that is not recognised has, those that fit best and equally well."""
    fits = {name: fit for name, reader in DATASETS.items() if (fit := reader.fit(folder))}
    return [name for name, fit in fits.items() if fit == max(fits.values())]


def nearby(folder: Path) -> Iterator[tuple[Path, Recognition]]:
    """Yield the folders up to two levels below and above in which one data set with labels or masks is recognised."""
    full = folder.resolve()
    for other in (*_subfolders(folder), full.parent, full.parent.parent):
        claims = labelled_claims(other)
        if len(claims) == 1:
            yield other, claims[0]


def labelled_claims(folder: Path) -> list[Recognition]:
    """Return the claims of public data sets on a folder, or without any those on images that have masks."""
    public = recognise(folder, generic=False)
    if public or not folder.is_dir():
        return public
    own = (reader for reader in DATASETS.values() if reader.generic and not reader.fallback)
    try:
        return [claim for reader in own if (claim := reader.recognise(folder)) is not None]
    except InputError:  # a declaration that cannot be read, of a folder that nobody named
        return []


def contents(folder: Path) -> str:
    """Return what lies directly in a folder, in words."""
    if not folder.is_dir():
        return "one file"
    children = [one for one in folder.iterdir() if not one.name.startswith(".")]
    folders = sorted((one.name for one in children if one.is_dir()), key=natural_key)
    listed = ", ".join(folders[:6]) + (", ..." if len(folders) > 6 else "")
    parts = [f"the folders {listed}"] if folders else []
    if len(folders) < len(children):
        parts.append(summarize_files(one for one in children if not one.is_dir()))
    return " and ".join(parts) or "nothing"


def _open_named(name: str, path: Path, split: str | None) -> SceneSet:
    reader = DATASETS[name]
    try:
        return reader.open(path, split)
    except InputError as error:
        hint = (
            None if _holds(reader, path) else next((one for one, claim in nearby(path) if claim.dataset == name), None)
        )
        if hint is None:
            raise
        raise InputError(f"{error}; point at {hint}: {name}={hint}") from error


def _holds(reader: type[DatasetReader], path: Path) -> bool:
    try:
        return bool(reader.splits(path))
    except InputError:
        return True


def _way_out(folder: Path) -> str:
    hint = next(nearby(folder), None)
    if hint is not None:
        return f"point at {hint[0]}, which is {hint[1].dataset}"
    alike = lookalikes(folder)
    if alike:
        ways = " or ".join(f"{name}={folder}" for name in alike)
        return (
            f"its layout is that of {', '.join(alike)}: `strays doctor {folder}` says what is wrong, or name it: {ways}"
        )
    return f"name it as NAME=PATH with one of {', '.join(DATASETS)}"


def _subfolders(folder: Path) -> list[Path]:
    """Return folders one and two levels below, not more than are worth looking into."""
    below = _folders_in(folder)
    return [*below, *(deeper for one in below for deeper in _folders_in(one))]


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    children = sorted((one for one in folder.iterdir() if one.is_dir()), key=lambda one: natural_key(one.name))
    return children[:_LOOKED_INTO]

"""``strays negatives``: kinds of negatives in, a contact sheet of training crops with them out."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strays.cli import options

if TYPE_CHECKING:
    from strays.data import SceneSet
    from strays.negatives import Mixture, Patch
    from strays.taxonomy import Taxonomy

__all__ = ["negatives"]


def negatives(
    kind: Annotated[
        list[str],
        typer.Option(
            help="objects=DIR, patches=DIR, whole=DIR or void, with settings as in objects:cut=union=DIR; several "
            "times to mix.",
            metavar="KIND=DIR",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Labelled scenes: NAME=PATH or synthetic=COUNT; several times for several sets.",
            metavar="NAME=PATH",
            show_default="synthetic=8",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Model that training will start from: labels that it does not know are no negatives.", metavar="MODEL"
        ),
    ] = None,
    out: options.OutFolder = Path("negatives"),
    count: Annotated[int, typer.Option(help="Number of crops.", metavar="N", min=1)] = 16,
    crop: Annotated[str, typer.Option(help="Size of a crop.", metavar="HxW")] = "256x320",
    scale: Annotated[str, typer.Option(help="Range of the random zoom.", metavar="LOW,HIGH")] = "0.6,1.8",
    share: Annotated[float, typer.Option(help="Probability that a crop gets a negative.", metavar="P")] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides crops and negatives as that of strays train does.", min=0)] = 0,
    split: Annotated[
        str | None, typer.Option(help="Part of the data sets; train by default, where there is one.", metavar="NAME")
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="Write the crops and masks as files as well.", metavar="")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.", metavar="")] = False,
) -> None:
    """Look at negatives before training with them: crops as training shows them, beside the masks that it learns from.

    Random colours and cameras are left out. Masks in files hold 0 = scene, 1 = negative, 255 = shows no scene.

    Example: strays negatives --kind objects=DIR --kind void --data camvid=DIR --out negatives
    """
    from strays.negatives import Mixture, build_negatives

    mixture = Mixture([build_negatives(one) for one in kind], share)
    sets = [_opened(one, split) for one in data or ["synthetic=8"]]
    patches = list(_mixed(sets, _classes(init), mixture, count, _size(crop), _range(scale), seed))
    _write(patches, out, files)
    if not quiet:
        _tell(patches, out, kind, mixture)


def _opened(spec: str, split: str | None) -> "SceneSet":
    """Return a data set; without a named split the one for training, where it has one."""
    from strays.data import open_scenes
    from strays.errors import InputError

    if split is not None:
        return open_scenes(spec, split)
    try:
        return open_scenes(spec, "train")
    except InputError:
        return open_scenes(spec)


def _classes(init: str | None) -> "Taxonomy | None":
    """Return the classes of the model that training starts from, or None where the first data set decides."""
    from strays.loading import load_model

    return None if init is None else load_model(init, device="cpu").taxonomy


def _mixed(
    sets: "list[SceneSet]",
    classes: "Taxonomy | None",
    mixture: "Mixture",
    count: int,
    size: tuple[int, int],
    zoom: tuple[float, float],
    seed: int,
) -> "Iterator[Patch]":
    """Yield the first crops of a training run with this seed."""
    import numpy as np

    _check_extra()
    from strays.training.crops import SceneMix, random_crop

    scenes = SceneMix(sets, classes)
    for number in range(count):
        epoch, position = divmod(number, len(scenes))
        index = int(np.random.default_rng([seed, epoch]).permutation(len(scenes))[position])
        random = np.random.default_rng([seed, epoch, index])
        yield mixture.mix(random_crop(scenes[index], size, zoom, random), random)


def _check_extra() -> None:
    from importlib.util import find_spec

    from strays.errors import InputError

    if find_spec("accelerate") is None:
        raise InputError("crops as in training need accelerate: pip install 'strays[train]'")


def _size(text: str) -> tuple[int, int]:
    from strays.errors import InputError
    from strays.scoring import parse_size

    try:
        return parse_size(text) or (0, 0)
    except InputError as error:
        raise InputError(f"--crop: {error}") from error


def _range(text: str) -> tuple[float, float]:
    from strays.errors import InputError

    low, _, high = text.partition(",")
    try:
        zoom = float(low), float(high)
    except ValueError:
        zoom = 0.0, 0.0
    if not 0 < zoom[0] <= zoom[1] < float("inf"):
        raise InputError(f"--scale: expected LOW,HIGH, two numbers above 0 such as 0.6,1.8, got {text!r}")
    return zoom


def _write(patches: "list[Patch]", out: Path, files: bool) -> None:
    from PIL import Image

    from strays.files import make_folder, whole_file
    from strays.negatives.preview import contact_sheet

    pictures = {make_folder(out) / "contact-sheet.png": contact_sheet(patches)}
    if files:
        images, masks = make_folder(out / "images"), make_folder(out / "masks")
        for number, patch in enumerate(patches):
            pictures[images / f"{number:04}.png"] = Image.fromarray(patch.image)
            pictures[masks / f"{number:04}.png"] = Image.fromarray(patch.mask)
    for path, picture in pictures.items():
        with whole_file(path) as stream:
            picture.save(stream, "PNG")


def _tell(patches: "list[Patch]", out: Path, specs: list[str], mixture: "Mixture") -> None:
    from strays.cli.progress import say

    for spec, kind in zip(specs, mixture.kinds, strict=True):
        say(f"{spec}: the unlabelled pixels of every crop" if kind.everywhere else f"{spec}: {len(kind)} images")
    masks = [patch.mask == 1 for patch in patches]
    holding, part = sum(1 for mask in masks if mask.any()), sum(float(mask.mean()) for mask in masks) / len(masks)
    say(f"{holding} of {len(masks)} crops hold negatives, {part:.1%} of all pixels: open {out / 'contact-sheet.png'}")
    words = " ".join(f"--negatives {shlex.quote(spec)}" for spec in specs)
    say(f"next: strays train RECIPE --data NAME=DIR {words} --out RUN")

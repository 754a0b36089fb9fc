"""``strays.json``: what a person declares about a folder of their own."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from strays.errors import InputError

__all__ = ["DECLARATION", "Declaration", "MaskValues", "read_declaration"]

DECLARATION = "strays.json"
"""The name of the file, directly in the folder of a data set."""


class MaskValues(BaseModel):
    """The raw mask values, 0 to 255, that mean inlier, anomaly and ignore."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inlier: tuple[int, ...] = (0,)
    anomaly: tuple[int, ...] = (1,)
    ignore: tuple[int, ...] = (255,)


class Declaration(BaseModel):
    """Where the images and masks of a folder lie, and what the masks hold.

    Args:
        images: the folder of images, relative to the folder of the file or absolute.
        masks: the folder of masks.
        image_ending: what the stems of image files end in, before the part that images and masks share.
        mask_ending: what the stems of mask files end in, such as ``_mask``.
        values: the raw mask values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str | None = None
    masks: str | None = None
    image_ending: str = ""
    mask_ending: str = ""
    values: MaskValues = MaskValues()


def read_declaration(folder: Path) -> Declaration | None:
    """Return what ``strays.json`` in a folder, or a JSON file itself, declares; None without such a file.

    Raises:
        InputError: if the file is not as expected; names the entry.
    """
    path = folder if folder.suffix == ".json" and folder.is_file() else folder / DECLARATION
    if not path.is_file():
        return None
    try:
        return Declaration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        example = '{"images": "images", "masks": "masks", "values": {"inlier": [0], "anomaly": [1], "ignore": [255]}}'
        raise InputError(f"{path}: {where}: {first['msg']}; expected for example {example}") from error

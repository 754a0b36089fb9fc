"""Data sets: finding and reading images, label maps and masks, and checking what a folder holds."""

from strays.data.base import DATASETS, DatasetReader, Facts, Frame, FrameSet, Recognition, SceneSet, register_dataset
from strays.data.images import MAX_PIXELS, read_image, read_map, rgb_array
from strays.data.opening import open_scenes
from strays.data.sources import Source, find_images
from strays.data.values import LabelMap, MaskMap

__all__ = [
    "DATASETS",
    "MAX_PIXELS",
    "DatasetReader",
    "Facts",
    "Frame",
    "FrameSet",
    "LabelMap",
    "MaskMap",
    "Recognition",
    "SceneSet",
    "Source",
    "find_images",
    "open_scenes",
    "read_image",
    "read_map",
    "register_dataset",
    "rgb_array",
]

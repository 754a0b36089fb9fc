"""Trainings in words: a recipe and the settings that differ, such as ``pebal:margins=fixed epochs=9``."""

from collections.abc import Mapping

from strays.training import TrainingSettings

__all__ = ["folder_name", "training_settings"]


def folder_name(words: str, seed: int | str) -> str:
    """Return what the folder of a training is called.

    Example:
        >>> folder_name("pebal:margins=fixed epochs=9", 1)
        'pebal-margins-fixed-epochs-9-1'
    """
    return f"{words.translate(str.maketrans(' :,=', '----'))}-{seed}"


def training_settings(words: str, usual: Mapping[str, object]) -> TrainingSettings:
    """Return the settings that the words stand for, on top of the usual ones."""
    recipe, *others = words.split()
    return TrainingSettings(**{**usual, "recipe": recipe, **dict(one.split("=", 1) for one in others)})

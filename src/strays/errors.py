"""The errors that a person can mend; the command line prints them in one line and exits with code 2."""

__all__ = ["InputError", "UnreadableImageError", "WeightsError"]


class InputError(ValueError):
    """Something that the caller gave is wrong: says what was expected, what came, and how to mend it."""


class UnreadableImageError(InputError):
    """An image file that cannot be decoded, or that is larger than the stated limit."""


class WeightsError(InputError):
    """A weights file that is missing, damaged, unsafe, or belongs to another network."""

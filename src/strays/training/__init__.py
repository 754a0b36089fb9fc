"""The one loop that all recipes share."""

from strays.training.logbook import Listener
from strays.training.loop import train
from strays.training.settings import TrainingSettings
from strays.training.validation import Validation

__all__ = ["Listener", "TrainingSettings", "Validation", "train"]

"""The one loop that all recipes share."""

from strays.training.loop import Listener, train
from strays.training.settings import TrainingSettings

__all__ = ["Listener", "TrainingSettings", "train"]

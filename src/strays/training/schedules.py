"""Learning rates: a short linear start, then a curve, or steps down when validation no longer gets better."""

from math import cos, pi

from strays.training.settings import TrainingSettings

__all__ = ["Schedule"]

_WARM_UP = 50
_POWER = 0.9
_PATIENCE = 5


class Schedule:
    """The factor on the learning rate, by step.

    Args:
        settings: name the schedule and the rates at its ends.
        steps: length of the run.

    Attributes:
        best: the best validation so far, and ``worse`` for how many epochs it has not been reached; only ``plateau``
            asks for them.
    """

    def __init__(self, settings: TrainingSettings, steps: int) -> None:
        self.name = settings.schedule
        self.steps = steps
        self.floor = min(1.0, settings.final_learning_rate / settings.learning_rate)
        self.best = 0.0
        self.worse = 0
        self.drops = 0

    def factor(self, step: int) -> float:
        """Return the factor of a step, counted from 0."""
        return min(1.0, (step + 1) / _WARM_UP) * self._curve(step)

    def validated(self, quality: float) -> None:
        """Take in how good the network is after an epoch; larger is better."""
        if self.name != "plateau":
            return
        self.worse = 0 if quality > self.best else self.worse + 1
        self.best = max(self.best, quality)
        if self.worse > _PATIENCE:
            self.drops, self.worse = self.drops + 1, 0

    def state(self) -> dict[str, float]:
        """Return what a checkpoint has to keep."""
        return {"best": self.best, "worse": self.worse, "drops": self.drops}

    def restore(self, state: dict[str, float]) -> None:
        """Take up what ``state`` returned."""
        self.best, self.worse, self.drops = state["best"], int(state["worse"]), int(state["drops"])

    def _curve(self, step: int) -> float:
        if self.name == "cosine":
            return self.floor + (1 - self.floor) * (1 + cos(pi * step / self.steps)) / 2
        if self.name == "poly":
            left: float = (1 - step / self.steps) ** _POWER
            return max(self.floor, left)
        return max(self.floor, 0.5**self.drops) if self.name == "plateau" else 1.0

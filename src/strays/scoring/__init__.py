"""From images to scores: one image, or a whole run that survives being killed."""

from strays.scoring.run import ScoreRun, ScoreSettings
from strays.scoring.scorer import Scored, Scorer, as_tensor, parse_size
from strays.scoring.single import score

__all__ = ["ScoreRun", "ScoreSettings", "Scored", "Scorer", "as_tensor", "parse_size", "score"]

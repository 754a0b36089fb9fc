"""The last mile: from a model that scores well to what others ask of it."""

from strays.deploy.formats import FORMATS, SubmissionFormat
from strays.deploy.frame_list import FrameList, Track
from strays.deploy.submission import Submission
from strays.deploy.summary import summary, warnings
from strays.deploy.tracks import Batch, open_batches

__all__ = [
    "FORMATS",
    "Batch",
    "FrameList",
    "Submission",
    "SubmissionFormat",
    "Track",
    "open_batches",
    "summary",
    "warnings",
]

"""The doctor: which data set a folder is, whether its files are right, and how to mend what is not."""

from strays.doctor.diagnosis import Diagnosis, Problem, SplitReport
from strays.doctor.examination import examine

__all__ = ["Diagnosis", "Problem", "SplitReport", "examine"]

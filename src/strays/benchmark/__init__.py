"""Detectors x data sets -> results, with the protocol written beside every number."""

from strays.benchmark.protocol import Protocol
from strays.benchmark.results import ResultRow, Results, Unmeasured, Unreadable, write_results
from strays.benchmark.runner import Benchmark, Outcome

__all__ = ["Benchmark", "Outcome", "Protocol", "ResultRow", "Results", "Unmeasured", "Unreadable", "write_results"]

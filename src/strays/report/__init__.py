"""The report: one self-contained HTML page with tables, curves, histograms and pictures."""

from strays.report.contents import Panel, Report, ReportRow, Skipped, Unknown
from strays.report.page import render_report, write_report

__all__ = ["Panel", "Report", "ReportRow", "Skipped", "Unknown", "render_report", "write_report"]

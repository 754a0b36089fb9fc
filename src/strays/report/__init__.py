"""The report: one self-contained HTML page with tables, curves, histograms and pictures."""

from strays.report.contents import NotMeasured, Panel, Report, ReportRow, Skipped
from strays.report.page import render_report, write_report

__all__ = ["NotMeasured", "Panel", "Report", "ReportRow", "Skipped", "render_report", "write_report"]

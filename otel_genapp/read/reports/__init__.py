"""Daily, weekly and monthly reports: summary, trends, advice, and the forms they are written in."""

from otel_genapp.read.reports.period import KINDS, STEPS, parse_day
from otel_genapp.read.reports.report import DETAILS, About, Report, Reports

__all__ = ["DETAILS", "KINDS", "STEPS", "About", "Report", "Reports", "parse_day"]

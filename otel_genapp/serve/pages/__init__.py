"""The pages at `/genapp/`, made on the server: overview, sessions, one session, traces, reports, and what an id belongs to."""

from otel_genapp.serve.pages.handlers import find, home, overview, session, sessions, trace, traces
from otel_genapp.serve.pages.login import LogIn, login_form, logout, to_login
from otel_genapp.serve.pages.rendering import ROOT
from otel_genapp.serve.pages.reports import report
from otel_genapp.serve.pages.static import static

__all__ = [
    "ROOT",
    "LogIn",
    "find",
    "home",
    "login_form",
    "logout",
    "overview",
    "report",
    "session",
    "sessions",
    "static",
    "to_login",
    "trace",
    "traces",
]

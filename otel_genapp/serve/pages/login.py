"""Letting a person in: a token for a cookie that no script can read and no other site can send."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from otel_genapp.serve.auth import COOKIE, COOKIE_S, Gate
from otel_genapp.serve.exchange import Reply, Request
from otel_genapp.serve.pages.rendering import ROOT, page, redirect
from otel_genapp.serve.reading import Reading

_NEXT_LIMIT = 2048


def login_form(request: Request, _reading: Reading) -> Reply:
    """Asks for a token."""
    return page("login.html", request, wrong=False, next=_next(request.query.get("next", "")))


@dataclass(frozen=True, slots=True)
class LogIn:
    """Takes the token of the form."""

    gate: Gate

    def __call__(self, request: Request, _reading: Reading) -> Reply:
        place = _next(request.form.get("next", ""))
        cookie = self.gate.log_in(request.form.get("token", ""))
        if cookie is None:
            return page("login.html", request, status=401, wrong=True, next=place)
        return redirect(request, place, headers=(_cookie(request, cookie, seconds=COOKIE_S),))


def logout(request: Request, _reading: Reading) -> Reply:
    """Takes the cookie back."""
    return redirect(request, "login", headers=(_cookie(request, "", seconds=0),))


def to_login(request: Request) -> Reply:
    """For somebody without a cookie who asked for a page; afterwards it is shown."""
    _, _, wanted = request.target.partition(ROOT)
    return redirect(request, f"login?{urlencode({'next': wanted})}" if _next(wanted) else "login")


def _cookie(request: Request, value: str, *, seconds: int) -> tuple[str, str]:
    secure = "; Secure" if request.secure else ""
    place = f"{request.root}{ROOT}"
    return "set-cookie", (
        f"{COOKIE}={value}; Path={place}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    )


def _next(said: str) -> str:
    """A page of ours to go on to; never an address of somebody else's."""
    harmless = len(said) <= _NEXT_LIMIT and said.isascii() and said.isprintable()
    return (
        said
        if harmless and not said.startswith(("/", "\\")) and ":" not in said.split("?", maxsplit=1)[0]
        else ""
    )

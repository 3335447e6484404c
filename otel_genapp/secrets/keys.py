"""Keys that give themselves away by how they begin, and bare hexadecimal."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from otel_genapp.secrets.values import REDACTED, is_word

_WORD, _DASHED, _DOTTED = "A-Za-z0-9", "A-Za-z0-9_-", "A-Za-z0-9_.=-"
_BASE64, _LINED = "A-Za-z0-9+/=", "A-Za-z0-9_"

_BEGINNINGS: Final[dict[str, dict[str, tuple[str, int]]]] = {
    "-": {
        "AGE-SECRET-KEY-1": ("A-Z0-9", 40), "GOCSPX-": (_DASHED, 20), "PMAK-": (_DASHED, 24),
        "bedrock-api-key-": (_BASE64, 30), "csk-": (_WORD, 20), "glcbt-": (_DASHED, 16),
        "gldt-": (_DASHED, 16), "glft-": (_DASHED, 16), "gloas-": (_DASHED, 16), "glpat-": (_DOTTED, 16),
        "glptt-": (_DASHED, 16), "glrt-": (_DOTTED, 16), "glsoat-": (_DASHED, 16), "key-": ("0-9a-f", 32),
        "nvapi-": (_DASHED, 20), "pk-lf-": (_DASHED, 16), "pplx-": (_WORD, 20), "pypi-": (_DASHED, 30),
        "sk-": (_DASHED, 16), "sntrys-": (_DASHED, 30), "sq0atp-": (_DASHED, 20), "sq0csp-": (_DASHED, 30),
        "tvly-": (_DASHED, 16), "xai-": (_DASHED, 20), "xapp-": (_DASHED, 10), "xox": (_DOTTED, 12),
    },
    "_": {
        "api_org_": (_WORD, 20), "dckr_pat_": (_DASHED, 16), "doo_v1_": (_WORD, 30), "dop_v1_": (_WORD, 30),
        "dor_v1_": (_WORD, 30), "figd_": (_DASHED, 20), "fw_": (_WORD, 20), "ghp_": (_WORD, 20),
        "gho_": (_WORD, 20), "ghr_": (_WORD, 20), "ghs_": (_DOTTED, 20), "ghu_": (_WORD, 20),
        "github_pat_": (_LINED, 20), "glc_": (_BASE64, 30), "glsa_": (_LINED, 20), "gsk_": (_WORD, 20),
        "hf_": (_WORD, 20), "lin_api_": (_WORD, 20), "ls__": (_WORD, 20), "lsv2_pt_": (_LINED, 20),
        "lsv2_sk_": (_LINED, 20), "npm_": (_WORD, 20), "ntn_": (_WORD, 20), "ops_eyJ": (_DASHED, 30),
        "pcsk_": (_LINED, 20), "phx_": (_WORD, 20), "r8_": (_WORD, 30), "rk_live_": (_WORD, 10),
        "rk_test_": (_WORD, 10), "sb_secret_": (_DASHED, 16), "sbp_": (_WORD, 20), "secret_": (_WORD, 32),
        "shpat_": (_WORD, 20), "shpca_": (_WORD, 20), "shpss_": (_WORD, 20), "sk_live_": (_WORD, 10),
        "sk_test_": (_WORD, 10), "sntryu_": (_WORD, 30), "tgp_v1_": (_DASHED, 20), "whsec_": (_BASE64, 16),
    },
    ".": {
        "SG.": ("A-Za-z0-9_.-", 30), "dp.pt.": (_WORD, 20), "dp.st.": ("A-Za-z0-9_.", 20),
        "eyJ": (_DOTTED, 20), "hvb.": (_DASHED, 20), "hvs.": (_DASHED, 20), "ya29.": ("A-Za-z0-9_.-", 16),
    },
    "": {
        "ABSK": (_BASE64, 60), "AIza": (_DASHED, 24), "AKIA": ("A-Z0-9", 16), "ASIA": ("A-Z0-9", 16),
        "ATATT3": ("A-Za-z0-9_=-", 30), "JQQJ99": (_WORD, 20), "SK": ("0-9a-f", 32), "dapi": ("0-9a-f", 32),
    },
}  # fmt: skip
"""Character every such key holds -> beginning -> (the characters that follow, their least number)."""

_HEX = re.compile(r"[0-9a-fA-F]{32,}+")
_REST_OF_TRACEPARENT = re.compile(r"-[0-9a-f]{16}-[0-9a-f]{2}(?![0-9A-Za-z])")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]|-(?!----END))*+(?:-----END [A-Z0-9 ]{0,60}-----)?"
)


def without_keys(text: str) -> str:
    """`text` without private keys and the keys that have a beginning of their own."""
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(REDACTED, text)
    for character, beginnings in _BEGINNINGS.items():
        if character in text:
            for beginning in beginnings:
                if beginning in text:
                    text = _pattern(beginning, character).sub(_replace, text)
    return text


def without_hex(text: str) -> str:
    """`text` without hexadecimal of 32 digits or more."""
    return _HEX.sub(_replace_hex, text)


@lru_cache(maxsize=256)
def _pattern(beginning: str, character: str) -> re.Pattern[str]:
    """The pattern of one beginning; made when it is first seen, to keep the import cheap."""
    characters, least = _BEGINNINGS[character][beginning]
    if beginning == "JQQJ99":  # Azure keys have their mark in the middle
        return re.compile(
            rf"(?<![A-Za-z0-9])[A-Za-z0-9]{{52}}(?P<mark>JQQJ99)(?P<tail>[{characters}]{{20,}}+)"
        )
    literal = re.escape(beginning)
    # The beginning first and what precedes it second: so the engine searches for a literal.
    preceded = (
        rf"(?:(?<![A-Za-z0-9]{literal})|(?<=%[0-9A-Fa-f]{{2}}{literal})|(?<=\\[nrt]{literal})"
        rf"|(?<=\\u[0-9A-Fa-f]{{4}}{literal}))"
    )
    return re.compile(rf"(?P<mark>{literal}){preceded}(?P<tail>[{characters}]{{{least},}}+)")


def _replace(found: re.Match[str]) -> str:
    judge = _JUDGED.get(found["mark"])
    return REDACTED if judge is None or judge(found["tail"]) else found[0]


def _replace_hex(found: re.Match[str]) -> str:
    """Neither the trace id of a traceparent nor a content digest is a secret."""
    digits = found[0]
    if (
        digits.isdigit()
        or digits.isalpha()
        or found.string.endswith("sha256:", 0, found.start())
        or (len(digits) == 32 and _REST_OF_TRACEPARENT.match(found.string, found.end()))
    ):
        return digits
    return REDACTED


def _is_key(tail: str) -> bool:
    """A part of it is too long, or has too many digits, to be words."""
    return any(
        len(part) >= 20
        or (len(part) >= 10 and part.isdigit())
        or (len(part) >= 8 and not part.isalpha() and not part.isdigit())
        or (len(part) >= 12 and not is_word(part))
        for part in re.split("[_-]", tail)
    )


_JUDGED: Final[dict[str, Callable[[str], bool]]] = {
    "AKIA": lambda tail: len(tail) == 16,
    "ASIA": lambda tail: len(tail) == 16,
    "SG.": lambda tail: "." in tail,
    "SK": lambda tail: len(tail) == 32,
    "eyJ": lambda tail: tail.count(".") >= 2 and len(tail) >= 36,
    "pypi-": _is_key,
    "sk-": _is_key,
    "xox": lambda tail: tail[1] == "-" or tail.startswith("e.xox"),
}

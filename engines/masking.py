"""The one place where secrets are taken out of text, before anything can print it."""

from __future__ import annotations

import re

_WITH_USER = re.compile(r"(://[^\s:/@]*:)(\S*)(?=@)")
_ALONE = re.compile(r"(https?://)([^\s:/@]+)(?=@)")  # a token; elsewhere a user without a password is no secret
_IN_QUERY = re.compile(
    r"([?&][^=&\s]*(?:pass|pwd|token|key|secret|auth|signature)[^=&\s]*=)([^\s&'\"]+)", re.IGNORECASE
)

_SETTING = re.compile(r"""((?<![\w?&-])(?:password|secret)["']?(?:=|:\s+)["']?)([^\s,}"']+)""")
_HEADER = re.compile(
    r"((?<![\w?&-])(?:X-[\w-]+|[\w-]*(?:Authorization|Api[-_]?Key|[-_]Token|Cookie))\s*[=:]\s*)([^\"',\]}&]+)",
    re.IGNORECASE,
)


def mask_passwords(text: str, same_length: bool = False) -> str:
    """Replace passwords and tokens in a text: those of addresses, of settings and of headers.

    Args:
        text: any text.
        same_length: put as many * as keep every column in place, instead of ***.

    Returns:
        The text; user names stay where a password follows them.
    """

    def hide(match: re.Match[str]) -> str:
        return match[1] + ("*" * len(match[2]) if same_length else "***")

    for pattern in (_WITH_USER, _ALONE, _IN_QUERY, _SETTING, _HEADER):
        text = pattern.sub(hide, text)
    return text

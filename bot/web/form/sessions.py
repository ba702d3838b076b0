"""Which browser asks: a cookie that holds a random name, and a token that only our pages know."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

_ID_BYTES = 16
_ID = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
_SESSION_LABEL = b"textproof form session v1"
_TOKEN_LABEL = b"textproof form token v1"
_NETWORK_LABEL = b"textproof form network v1"


class Sessions:
    """The sessions of a web form, kept nowhere: the cookie names one, and a hash stands for it.

    `keys` are the secret keys, first the one that signs; `public_url` is the origin people reach
    the form at, or empty.
    """

    def __init__(self, keys: Sequence[str], public_url: str) -> None:
        self._token_keys = [_derived(key, _TOKEN_LABEL) for key in keys]
        self._network_key = _derived(keys[0], _NETWORK_LABEL)
        self._public_url = public_url
        self._secure = public_url.startswith("https://")
        # Only this very host can set a cookie of that name (RFC 6265bis §4.1.3.2).
        self._cookie = "__Host-textproof" if self._secure else "textproof"

    def begin(self) -> str:
        """Make a new id: 128 random bits."""
        return secrets.token_urlsafe(_ID_BYTES)

    def id_of(self, request: web.Request) -> str | None:
        """Read the id from the cookie; None where there is none that could be ours."""
        value = request.cookies.get(self._cookie, "")
        return value if _ID.fullmatch(value) else None

    def keep(self, response: web.StreamResponse, session_id: str) -> None:
        """Have the browser keep the id until it is closed."""
        response.set_cookie(
            self._cookie,
            session_id,
            path="/",
            httponly=True,
            secure=self._secure,
            samesite="Lax",
        )

    def name_of(self, session_id: str) -> str:
        """Name a session where it is stored: the id cannot be found from it."""
        return hashlib.sha256(_SESSION_LABEL + b"\0" + session_id.encode()).hexdigest()

    def token(self, session_id: str) -> str:
        """Make the token that a page sends back, to show that it is ours."""
        return _signed(self._token_keys[0], session_id)

    def knows(self, token: str, session_id: str) -> bool:
        """Compare a token in constant time; one under an older key is known, too."""
        given = token.encode("utf-8", "replace")
        known = [
            hmac.compare_digest(given, _signed(key, session_id).encode())
            for key in self._token_keys
        ]
        return any(known)

    def asked_here(self, request: web.Request) -> bool:
        """Tell whether a browser that says where a request comes from says: from our page."""
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none"):
            return False
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        if self._public_url:
            return origin.lower() == self._public_url.lower()
        return _host_of(origin) == request.host.lower()

    def asked_from(self, network: str) -> str:
        """Stand for a network where requests are counted; it cannot be read back."""
        return _signed(self._network_key, network)


def _host_of(origin: str) -> str:
    """Read the host and port of an origin; "" where it names none, as with `null` and nonsense."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _derived(secret: str, label: bytes) -> bytes:
    return hmac.new(secret.encode(), label, hashlib.sha256).digest()


def _signed(key: bytes, message: str) -> str:
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()

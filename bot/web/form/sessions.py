"""Browser sessions: a cookie with a random id and its MAC, and a CSRF token derived from the id.

Without the MAC, every made-up cookie would have to be looked up in the database.
"""

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
_COOKIE = re.compile(r"([A-Za-z0-9_-]{22})\.([0-9a-f]{64})", re.ASCII)
_SESSION_LABEL = b"textproof form session v1"
_COOKIE_LABEL = b"textproof form cookie v1"
_TOKEN_LABEL = b"textproof form token v1"
_NETWORK_LABEL = b"textproof form network v1"
_CHALLENGE_LABEL = b"textproof form challenge v1"


class Sessions:
    """Sessions of the web form. No id is stored: verifications hold a hash of it.

    `keys` are the secret keys, of which the first signs and all verify. `public_url` is the origin
    of the form as browsers see it, or "".
    """

    def __init__(self, keys: Sequence[str], public_url: str) -> None:
        self._cookie_keys = [_derive_key(key, _COOKIE_LABEL) for key in keys]
        self._token_keys = [_derive_key(key, _TOKEN_LABEL) for key in keys]
        self._challenge_keys = [_derive_key(key, _CHALLENGE_LABEL) for key in keys]
        self._network_key = _derive_key(keys[0], _NETWORK_LABEL)
        self._public_url = public_url
        self._secure = public_url.startswith("https://")
        # Only this exact host can set a cookie with this prefix (RFC 6265bis §4.1.3.2).
        self._cookie = "__Host-textproof" if self._secure else "textproof"

    def new_id(self) -> str:
        """Return a new id: 128 random bits."""
        return secrets.token_urlsafe(_ID_BYTES)

    def read_id(self, request: web.Request) -> str | None:
        """Return the id in the cookie; None if it is missing or not signed with any key."""
        cookie = _COOKIE.fullmatch(request.cookies.get(self._cookie, ""))
        if cookie is None or not _is_signed(self._cookie_keys, cookie[1], cookie[2]):
            return None
        return cookie[1]

    def set_cookie(self, response: web.StreamResponse, session_id: str) -> None:
        """Set the cookie, until the browser is closed."""
        response.set_cookie(
            self._cookie,
            f"{session_id}.{_sign(self._cookie_keys[0], session_id)}",
            path="/",
            httponly=True,
            secure=self._secure,
            samesite="Lax",
        )

    def hashed_id(self, session_id: str) -> str:
        """Return the hash by which the database identifies a session."""
        return hashlib.sha256(_SESSION_LABEL + b"\0" + session_id.encode()).hexdigest()

    def csrf_token(self, session_id: str) -> str:
        """Return the token that a form must send back."""
        return _sign(self._token_keys[0], session_id)

    def is_csrf_token(self, token: str, session_id: str) -> bool:
        """Return whether a token is a session's, under any key; compare in constant time."""
        return _is_signed(self._token_keys, session_id, token)

    def sign_challenge(self, challenge: str, session_id: str) -> str:
        """Return the MAC of a challenge that is shown to a session."""
        return _sign(self._challenge_keys[0], f"{session_id} {challenge}")

    def is_own_challenge(self, challenge: str, mac: str, session_id: str) -> bool:
        """Return whether a challenge was shown to a session, under any key."""
        return _is_signed(self._challenge_keys, f"{session_id} {challenge}", mac)

    def is_same_origin(self, request: web.Request) -> bool:
        """Return whether a request's Sec-Fetch-Site and Origin, if present, name this site."""
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        if site not in ("same-origin", "none"):
            return False
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        if self._public_url:
            return origin.lower() == self._public_url.lower()
        return _host_of(origin) == request.host.lower()

    def hashed_network(self, network: str) -> str:
        """Return the keyed hash by which requests from a network are counted."""
        return _sign(self._network_key, network)


def _host_of(origin: str) -> str:
    """Return the host and port of an origin; "" if it has none, like `null`, or is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _derive_key(secret: str, label: bytes) -> bytes:
    return hmac.new(secret.encode(), label, hashlib.sha256).digest()


def _sign(key: bytes, message: str) -> str:
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()


def _is_signed(keys: Sequence[bytes], message: str, signature: str) -> bool:
    """Return whether a signature was made with any of the keys; compare in constant time."""
    given = signature.encode("utf-8", "replace")
    matches = [hmac.compare_digest(given, _sign(key, message).encode()) for key in keys]
    return any(matches)

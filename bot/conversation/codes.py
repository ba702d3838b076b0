"""Codes, derived from a token and a secret key, so that none is ever stored.

A hash of six digits can be reversed in a second; an HMAC whose key is not in the database
cannot. The derivation follows HOTP (RFC 4226 §5), with SHA-256 and the whole digest.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from bot.conversation.numbers import canonical
from bot.conversation.state import Alphabet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bot.conversation.state import Token

_CODE_LABEL = b"textproof code v1"
_LETTERS_LABEL = b"textproof letters v1"
LETTERS = "GHJKMNPQRTVWXZ"
"""The letters of a reply: no vowels, none that a hexadecimal code has, none that look alike."""
_KEY_ID_LABEL = b"textproof key id v1"
_KEY_ID_LENGTH = 12


class Keyring:
    """The secret keys: the first one signs, the others still verify codes of older tokens.

    `test_codes` are the fixed codes of test numbers (E.164).
    """

    def __init__(self, secrets: Sequence[str], test_codes: Mapping[str, str] = {}) -> None:
        if not secrets:
            raise ValueError("a keyring needs at least one secret")
        keys = [secret.encode() for secret in secrets]
        self._keys = {_key_id(key): key for key in keys}
        self.signing_key_id = _key_id(keys[0])
        self._letters_key = keys[0]
        self._test_codes = {canonical(number): code for number, code in test_codes.items()}

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._keys

    def is_test(self, phone: str) -> bool:
        """Return whether a number is a test number: its code is fixed, and no text is sent."""
        return canonical(phone) in self._test_codes

    def code(self, token: Token, bot_number: str, phone: str) -> str:
        """Return the code of `token` for these two numbers (E.164).

        It is the same for each spelling of the phone's number, so that a code which was asked for
        under one is right from the other. Raises KeyError if the token's key is no longer in the
        keyring.
        """
        phone = canonical(phone)
        if phone in self._test_codes:
            return self._test_codes[phone]
        message = b"\0".join(
            part.encode() if isinstance(part, str) else part
            for part in (_CODE_LABEL, token.id, bot_number, phone)
        )
        digest = hmac.new(self._keys[token.key_id], message, hashlib.sha256)
        length = token.format.length
        if token.format.alphabet is Alphabet.HEX:
            return digest.hexdigest()[:length].upper()
        return f"{int.from_bytes(digest.digest()) % 10**length:0{length}d}"

    def letters(self, verification: str, index: int) -> str:
        """Return the two letters that tell one request of a phone (its id) from the others.

        They are shown where the code was asked for, never by text, and not stored. If another live
        request of the phone has the same ones, a higher `index` gives others.
        """
        message = b"\0".join([_LETTERS_LABEL, verification.encode(), str(index).encode()])
        digest = hmac.new(self._letters_key, message, hashlib.sha256).digest()
        first, second = divmod(int.from_bytes(digest) % len(LETTERS) ** 2, len(LETTERS))
        return LETTERS[first] + LETTERS[second]

    def matches(self, guess: str, token: Token, bot_number: str, phone: str) -> bool:
        """Return whether a guess is right, in constant time; False for an unknown key."""
        if token.key_id not in self:
            return False
        return hmac.compare_digest(guess.encode(), self.code(token, bot_number, phone).encode())


def _key_id(key: bytes) -> str:
    return hmac.new(key, _KEY_ID_LABEL, hashlib.sha256).hexdigest()[:_KEY_ID_LENGTH]

"""A verification: an app's request to prove a number, and its result."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Origin(StrEnum):
    """How a code was requested: by the person alone, with a reference, by an app or by the form."""

    PERSON = "person"
    REFERENCE = "reference"
    APP = "app"
    FORM = "form"


class Complete(StrEnum):
    """How a verification may be completed: by typing the code alone, or by a reply too.

    A person who replies with a code may only obey a text that a stranger has asked for. So a reply
    completes a request of an app or the form only with two letters that are shown there
    (ASVS 5.0 §6.6.2, NIST SP 800-63B-4 §3.1.3.2).
    """

    TYPED = "typed"
    REPLY = "reply"


class ReplyRule(StrEnum):
    """Which reply by text is compared with a code."""

    CODE = "code"
    """The code alone: the person asked for it by text."""
    LETTERS = "letters"
    """The code with the two letters of the request."""
    NONE = "none"

    @classmethod
    def of(cls, origin: Origin, complete: Complete) -> ReplyRule:
        """Return the rule for the code of a verification."""
        if complete is Complete.TYPED:
            return cls.NONE
        return cls.LETTERS if origin in (Origin.APP, Origin.FORM) else cls.CODE


class Status(StrEnum):
    """The status of a verification; all but `pending` are final, but NOT ME revokes a success."""

    PENDING = "pending"
    VERIFIED = "verified"
    REVOKED = "revoked"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"


class Reason(StrEnum):
    """Why a verification failed, was refused or was revoked."""

    TOO_MANY_GUESSES = "too_many_guesses"
    NOT_ME = "not_me"
    OPTED_OUT = "opted_out"
    UNDELIVERABLE = "undeliverable"
    LOCKED = "locked"
    TOO_MANY_CODES = "too_many_codes"


class Verification(Struct, frozen=True):
    """An app's request and its result. Numbers are E.164, times UTC.

    `letters_index` distinguishes the letters of a reply from those of the phone's other requests.
    `id` is unguessable. `phone` is None until a person has texted the reference. `reference` is
    the word to text if `origin` is `reference`, else the app's own name for its session. `session`
    is a hash of the web form's browser session. `test` means that no text is sent and the code is
    fixed. `code_length` is that of its code; None while no code was sent. `label` says in the code
    text of a reference what the verification is about.
    """

    id: str
    origin: Origin
    bot_number: str
    created_at: datetime
    expires_at: datetime
    phone: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] = {}
    status: Status = Status.PENDING
    reason: Reason | None = None
    ended_at: datetime | None = None
    revoked_at: datetime | None = None
    session: str | None = None
    test: bool = False
    complete: Complete = Complete.TYPED
    letters_index: int = 0
    code_length: int | None = None
    label: str | None = None

    def status_at(self, now: datetime) -> Status:
        """Return the status at `now`, even if its expiry is not yet recorded."""
        expired = self.status is Status.PENDING and now >= self.expires_at
        return Status.EXPIRED if expired else self.status

    def reference_shown_at(self, now: datetime) -> str | None:
        """Return the reference as anybody may see it who did not create the verification.

        A person who texts an issued reference takes part in its verification, so it stays hidden
        until the verification has ended. An app's own reference is always shown.
        """
        usable = self.origin is Origin.REFERENCE and self.status_at(now) is Status.PENDING
        return None if usable else self.reference


class RequestOutcome(StrEnum):
    """The outcome of an app's request."""

    DONE = "done"
    RIGHT = "right"
    WRONG = "wrong"
    TOO_SOON = "too_soon"
    TOO_MANY_CODES = "too_many_codes"
    TOO_MANY_REQUESTS = "too_many_requests"
    TOO_MANY_GUESSES = "too_many_guesses"
    LOCKED = "locked"
    NOT_ME = "not_me"
    OPTED_OUT = "opted_out"
    NOT_PENDING = "not_pending"
    NOT_FOUND = "not_found"
    KEY_REUSED = "key_reused"


class AppAnswer(Struct, frozen=True):
    """The answer to an app's request; `retry_at` (UTC) is when it may succeed, if it ever may.

    `tries_left` is how many codes may still be submitted; `counted` is False if this one cost no
    try.
    """

    outcome: RequestOutcome
    retry_at: datetime | None = None
    tries_left: int = 0
    counted: bool = True

r"""Every text the bot sends: short, kind, and with what to do next.

Each fits one segment of 160 GSM-7 characters (3GPP TS 23.038) with its longest values, so it
costs one message and arrives whole; `~ ^ | \ { } [ ] €` count double there and are avoided.
The code stands alone between spaces or stops, so that phones can offer to fill it in.
"""

from __future__ import annotations

import math
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

CODE_PLACEHOLDER = "{code}"
"""Stands for the code in a stored text; the sender replaces it with the code."""

SEGMENT = 160
MAX_APP_NAME_LENGTH = 24
MAX_SUPPORT_CONTACT_LENGTH = 40
MAX_LABEL_LENGTH = 24

GSM7_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The characters that count once in a GSM-7 text (3GPP TS 23.038 §6.2.1)."""


_MINUTE = 60  # seconds
_HOUR = 60  # minutes
_MAX_IN_MINUTES = 120
_DAY = 24  # hours
_MAX_IN_HOURS = 72


CODE_WORDINGS = ("Reply with it within", "Type it where you asked")
"""Words of every code text and of no other: a text with one of them quotes ours."""


class Courtesy(StrEnum):
    """The kinds of replies that lead to no verification, each limited in a row."""

    HINT = "hint"
    ANSWER = "answer"


class Reply(StrEnum):
    """The kind of a text to a person."""

    CODE = "code"
    CODE_TYPED = "code_typed"
    CODE_FORM = "code_form"
    CODE_SPENT = "code_spent"
    REFERENCE_UNKNOWN = "reference_unknown"
    REFERENCE_SPENT = "reference_spent"
    TYPE_IT = "type_it"
    WRONG = "wrong"
    WRONG_TYPE_IT = "wrong_type_it"
    MISTYPED = "mistyped"
    EXPIRED = "expired"
    NO_CODE = "no_code"
    LOCKED = "locked"
    SUCCESS = "success"
    WAIT = "wait"
    WAIT_CODE = "wait_code"
    STATUS = "status"
    STATUS_QUEUED = "status_queued"
    STATUS_SENT = "status_sent"
    STATUS_FAILED = "status_failed"
    STATUS_VERIFIED = "status_verified"
    STATUS_LOCKED = "status_locked"
    HELP = "help"
    HINT = "hint"
    HINT_CODE = "hint_code"
    NOT_ME = "not_me"
    NOT_ME_WITHOUT_CODE = "not_me_without_code"
    STOPPED = "stopped"
    WELCOME = "welcome"

    @property
    def courtesy(self) -> Courtesy | None:
        """Return the kind of courtesy by which a reply of the table is limited, if it is one."""
        return _TEXTS[self].courtesy

    @property
    def invites(self) -> bool:
        """Return whether the text suggests VERIFY or RESEND, so that it must work now."""
        return _TEXTS[self].invites

    @property
    def repeats_wait(self) -> bool:
        """Return whether each text that a wait replaces names the wait, not only the first."""
        return _TEXTS[self].repeats_wait


class _Text(NamedTuple):
    wording: str
    courtesy: Courtesy | None = None
    invites: bool = False
    repeats_wait: bool = False


_CODE_TYPED = (
    f"{{app}} code: {{code}}{{purpose}}. {CODE_WORDINGS[1]}, never share it. Not you? Reply NOT ME."
)

_TEXTS: dict[Reply, _Text] = {
    Reply.CODE: _Text(
        f"{{app}} code: {{code}}{{purpose}}. {CODE_WORDINGS[0]} {{life}}. Not you? Reply NOT ME."
    ),
    Reply.CODE_TYPED: _Text(_CODE_TYPED),
    # The last line binds the code to the form's site: a browser fills it in nowhere else
    # (WICG, "Origin-bound one-time codes delivered via SMS").
    Reply.CODE_FORM: _Text(f"{_CODE_TYPED}\n@{{host}} #{{code}}"),
    Reply.CODE_SPENT: _Text(
        "That code is not right, and too many were tried for the one we sent."
        " Text VERIFY to get a new one.",
        invites=True,
    ),
    Reply.REFERENCE_UNKNOWN: _Text(
        "{app}: we do not know that reference. Please check it and text VERIFY with it again.",
        Courtesy.ANSWER,
    ),
    Reply.REFERENCE_SPENT: _Text(
        "{app}: that reference was used or has expired. Please get a new one where you found it.",
        Courtesy.ANSWER,
    ),
    Reply.WRONG: _Text(
        "That code is not right, {tries} left. Please check it and reply again,"
        " or text RESEND to get it once more."
    ),
    Reply.TYPE_IT: _Text(
        "{app}: if a website or app asked for the code, type it there."
        " If it was not you, reply NOT ME."
    ),
    Reply.WRONG_TYPE_IT: _Text(
        "That code is not right, {tries} left. Please check it, or text RESEND."
        " If a website or app asked for the code, type it there."
    ),
    Reply.MISTYPED: _Text(
        "A code has {length} {symbols}. Please check it and reply with just the code,"
        " or text RESEND to get it once more.",
        Courtesy.ANSWER,
    ),
    Reply.EXPIRED: _Text("Your code has expired. Text VERIFY to get a new one.", invites=True),
    Reply.NO_CODE: _Text(
        "No code is waiting for you here. Text VERIFY to get one.", Courtesy.ANSWER, invites=True
    ),
    Reply.LOCKED: _Text(
        "Too many wrong codes. Please wait {wait}, then text VERIFY for a new code."
    ),
    Reply.SUCCESS: _Text("{app}: thank you, this number is verified. There is nothing more to do."),
    Reply.WAIT: _Text(
        "{app}: no more codes to this number for now. Please wait {wait}, then text VERIFY.",
        invites=True,
        repeats_wait=True,
    ),
    Reply.WAIT_CODE: _Text(
        "{app}: the code we sent works for {life} more. No new one can be sent for {wait}."
    ),
    Reply.STATUS: _Text(
        "{app}: this number is not confirmed and no code is waiting. Text VERIFY to get one.",
        Courtesy.ANSWER,
        invites=True,
        repeats_wait=True,
    ),
    Reply.STATUS_QUEUED: _Text(
        "{app}: your code is on its way. It works for {life}, {tries} left."
    ),
    Reply.STATUS_SENT: _Text(
        "{app}: your code was sent. It works for {life}, {tries} left."
        " Reply with it, or text RESEND."
    ),
    Reply.STATUS_FAILED: _Text(
        "{app}: your code could not be delivered. Text RESEND to have it sent again.", invites=True
    ),
    Reply.STATUS_VERIFIED: _Text("{app}: this number has been verified since {since}."),
    Reply.STATUS_LOCKED: _Text(
        "{app}: too many wrong codes. Please wait {wait}, then text VERIFY."
    ),
    # What the program does, how often it texts, the costs, a contact and the way out (CTIA,
    # Messaging Principles and Best Practices, §5.1).
    Reply.HELP: _Text(
        "{app}: text VERIFY to get a code. 1 msg/request. Msg&data rates may apply.{support}"
        " STOP to opt out.",
        Courtesy.ANSWER,
    ),
    Reply.HINT: _Text(
        "Hi, this is {app}. Text VERIFY to confirm your number, or HELP for help.",
        Courtesy.HINT,
        invites=True,
    ),
    Reply.HINT_CODE: _Text(
        "Please reply with just the code we sent you, or text RESEND to get it once more."
    ),
    Reply.NOT_ME: _Text(
        "{app}: thanks. Any code or verification of the last day is cancelled."
        " No app gets one for {refusal}. Was it you? Text VERIFY{later}.",
        Courtesy.ANSWER,
    ),
    Reply.NOT_ME_WITHOUT_CODE: _Text(
        "{app}: thank you. There is nothing to cancel: no code or verification of the last 24 hours"
        " is left for this number.",
        Courtesy.ANSWER,
    ),
    Reply.STOPPED: _Text(
        "{app}: you have opted out and will get no more texts from us. Text START to come back.",
        Courtesy.ANSWER,
    ),
    Reply.WELCOME: _Text(
        "{app}: welcome. Text VERIFY to confirm your number, or HELP for help.",
        Courtesy.ANSWER,
        invites=True,
        repeats_wait=True,
    ),
}


def compose(  # noqa: PLR0913 - each text uses a few of these, named at the call
    reply: Reply,
    *,
    app: str,
    support: str,
    host: str,
    code_length: int,
    hexadecimal: bool,
    wait: timedelta,
    refusal: timedelta,
    life: timedelta,
    tries: int,
    since: datetime | None,
    purpose: str = "",
) -> str:
    """Return the text of a reply; its code stays `CODE_PLACEHOLDER`, so that no code is stored.

    `wait` is how long until VERIFY works, `refusal` how long apps cannot have a code sent, `life`
    how long the code still works. `purpose` is one of `purposes`.
    """
    return _TEXTS[reply].wording.format(
        app=app,
        code=CODE_PLACEHOLDER,
        purpose=purpose,
        host=host,
        support=f" Help: {support}." if support else "",
        length=code_length,
        symbols="characters, 0-9 and A-F" if hexadecimal else "digits",
        wait=duration(wait),
        later=f" in {duration(wait)}" if wait > timedelta() else "",
        refusal=duration(refusal),
        life=duration(life),
        tries="1 try" if tries == 1 else f"{tries} tries",
        since=f"{since:%d %b %Y, %H:%M} UTC" if since else "",
    )


def purposes(reference: str, label: str) -> tuple[str, ...]:
    """Return what a code text may say of the code's purpose, the most telling first.

    A texted reference may be a stranger's, since the sender of a text can be forged: its code text
    must name the session. The last one, "", is for a code that leaves no room in the segment.
    """
    if not reference:
        return ("",)
    alone = f". It is for reference {reference}"
    return (f". It is for {label}, reference {reference}", alone, "") if label else (alone, "")


def duration(length: timedelta) -> str:
    """Return a duration in words: in seconds, minutes, hours or days, rounded up."""
    seconds = max(1, math.ceil(length.total_seconds()))
    if seconds < _MINUTE:
        return _counted(seconds, "second")
    minutes = -(-seconds // _MINUTE)
    if minutes <= _MAX_IN_MINUTES and minutes % _HOUR:
        return _counted(minutes, "minute")
    hours = -(-minutes // _HOUR)
    if hours <= _MAX_IN_HOURS:
        return _counted(hours, "hour")
    return _counted(-(-hours // _DAY), "day")


def _counted(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"

"""Plays stories: scripts of conversations, each text with its replies.

A story has one statement on each line:

    # a comment
    # with TOKEN_ATTEMPTS=3   a setting that differs from the default
    # at 2026-01-15T12:00:00+00:00  the time at the start; noon of that day by default
    > VERIFY                  the person texts
    < Textproof code: {code}. …  the bot replies; `{code}` stands for the code in the text
    * You are unsubscribed …  the carrier replies by itself
    = awaiting_code           the state of the conversation
    /later 11m                the clock moves ahead
    /fault 500                arms a fault; `telnyx/faults.py` lists them
    /phone +13125550002       the following lines are about another phone
    /mms TEXT, /group TEXT    the person texts with a picture, or to a group
    /ask                      an app requests a code for the phone, to be typed
    /ask reply                the same, and a reply with `{letters}` after the code completes it too
    /ask reference            an app requests a reference; `{reference}` stands for it from then on
    /ask reference LABEL      the same, and the code text names this label
    /type {code}              the person types this into the app, for its latest request
    @ verified                the status of the app's latest request, or why it was refused

In the person's texts `{code}` is the latest code, `{code:1}` the first one sent to any phone, and
`{wrong}` a code that was not sent. The script must contain every reply: a line without one must
get none. A reply may also come after a `/later` that follows its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bot.conversation.inputs import Shape
from bot.conversation.numbers import canonical, is_e164
from bot.conversation.references import to_label
from bot.conversation.replies import CODE_PLACEHOLDER
from bot.conversation.verification import Complete, Origin
from bot.services.verifications import VerificationRequest
from bot.simulator.clock import NOON, parse_duration
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx.journal import Author
from bot.store import conversations

if TYPE_CHECKING:
    from bot.conversation.verification import Verification
    from bot.services.verifications import RequestResult, Verifications
    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.journal import PhoneText

SHAPES = {">": Shape.PLAIN, "/mms": Shape.MEDIA, "/group": Shape.GROUP}
"""The shape of a person's text, by the mark of its line."""
REPLY_AUTHORS = {"<": Author.BOT, "*": Author.CARRIER}
WRONG, REFERENCE, LETTERS = "{wrong}", "{reference}", "{letters}"
WITH, AT = "# with ", "# at "
_SETTINGS = frozenset(
    {"token_length", "token_alphabet", "token_ttl", "token_attempts", "resend_cooldown"}
    | {"codes_per_hour", "codes_per_day", "app_name", "support_contact"}
)
"""No others: a script from elsewhere must not choose a database, or an API to send texts to."""
_CODE = re.compile(r"[0-9A-F]{4,64}")
_CODE_REFERENCE = re.compile(r"\{code(?::(\d{1,4}))?\}")


class StoryError(Exception):
    """The conversation did not go as the script says; the message names the line."""


def settings_of(script: str) -> dict[str, str]:
    """Return the settings that a script names; raise StoryError."""
    settings = {}
    for line in _directives(script, WITH):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name.lower() not in _SETTINGS:
            names = ", ".join(sorted(_SETTINGS)).upper()
            raise StoryError(f"{WITH}{line}\na story can set NAME=VALUE for: {names}")
        settings[name.lower()] = value
    return settings


def start_time_of(script: str) -> datetime:
    """Return the time (UTC) at which a script starts; raise StoryError."""
    for line in _directives(script, AT):
        try:
            start = datetime.fromisoformat(line)
        except ValueError:
            raise StoryError(f"{AT}{line}\nwrite a time like {NOON.isoformat()}") from None
        return start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
    return NOON


def _directives(script: str, mark: str) -> list[str]:
    return [line[len(mark) :].strip() for line in script.splitlines() if line.startswith(mark)]


@dataclass(slots=True)
class Player:
    """Plays a script line by line in a sandbox."""

    sandbox: Sandbox
    phone: str = PHONE
    _codes: list[str] = field(default_factory=list)
    _last_code: str = ""
    _last_seen_id: int = 0
    _unread: list[PhoneText] = field(default_factory=list)
    _last_request: RequestResult | None = None

    async def play(self, script: str) -> None:
        """Play the whole script; raise StoryError if it does not go as written."""
        for number, line in enumerate(script.splitlines(), start=1):
            try:
                await self._play_line(line.strip())
            except (StoryError, ValueError) as error:
                raise StoryError(f"line {number}: {line.strip()}\n{error}") from error
        self._expect_no_text()

    async def _play_line(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        match mark:
            case "" | "#":
                return
            case "<" | "*":
                self._expect(rest, REPLY_AUTHORS[mark])
                return
            case "/later":
                await self.sandbox.travel(self.phone, parse_duration(rest))
                self._collect_texts()
                return
            case "/phone":
                if not is_e164(rest):
                    raise ValueError("write a phone number like +13125550002")
                self.phone = rest
                return
        self._expect_no_text()
        match mark:
            case ">" | "/mms" | "/group":
                await self.sandbox.text(self.phone, self._fill_in(rest), SHAPES[mark])
                self._collect_texts()
            case "/fault":
                self.sandbox.arm(rest)
            case "=":
                await self._expect_state(rest)
            case "/ask" | "/type" | "@":
                await self._play_app_line(mark, rest)
            case _:
                raise ValueError(
                    "a line begins with one of: # > < * = @ /later /fault /phone /mms /group"
                    " /ask /type"
                )

    async def _play_app_line(self, mark: str, rest: str) -> None:
        match mark, rest:
            case "/ask", "" | "reply":
                complete = Complete.REPLY if rest else Complete.TYPED
                self._last_request = await self._apps.begin(
                    VerificationRequest(Origin.APP, canonical(self.phone), complete)
                )
            case "/ask", _ if rest.partition(" ")[0] == "reference":
                label = rest.partition(" ")[2]
                self._last_request = await self._apps.begin(
                    VerificationRequest(Origin.REFERENCE, label=to_label(label) if label else None)
                )
            case "/type", code:
                await self._apps.check(self._verification().id, self._fill_in(code))
            case "@", status:
                await self._expect_status(status)
            case _:
                raise ValueError("use /ask, /ask reply or /ask reference")
        await self.sandbox.quiet()
        self._collect_texts()

    @property
    def _apps(self) -> Verifications:
        if self.sandbox.bot.verifications is None:
            raise ValueError("this sandbox has no API")
        return self.sandbox.bot.verifications

    def _verification(self) -> Verification:
        """Return the verification of the app's latest request; raise ValueError without one."""
        if self._last_request is None or self._last_request.verification is None:
            raise ValueError("no app has requested a verification yet, or it was refused")
        return self._last_request.verification

    def _collect_texts(self) -> None:
        """Collect the new texts to all phones."""
        new = [text for text in self.sandbox.telnyx.texts if text.id > self._last_seen_id]
        self._unread += new
        self._last_seen_id = max((text.id for text in new), default=self._last_seen_id)

    def _fill_in(self, text: str) -> str:
        text = self._with_reference(text)
        if LETTERS in text:
            text = text.replace(LETTERS, self._apps.letters(self._verification()) or "")
        return _CODE_REFERENCE.sub(self._code_for, text).replace(WRONG, self._wrong_code())

    def _with_reference(self, text: str) -> str:
        if REFERENCE not in text:
            return text
        return text.replace(REFERENCE, self._verification().reference or "")

    def _code_for(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return self._last_code
        number = int(match[1])
        if not 1 <= number <= len(self._codes):
            raise ValueError(f"only {len(self._codes)} codes have been sent so far")
        return self._codes[number - 1]

    def _wrong_code(self) -> str:
        """Return a code in the format of the latest one, but one that was never sent."""
        last = self._last_code
        return next(
            (other for digit in "0123456789" if (other := last[:-1] + digit) not in self._codes),
            last,
        )

    def _expect(self, pattern: str, author: Author) -> None:
        received = next((text for text in self._unread if text.phone == self.phone), None)
        if received is None:
            raise StoryError("expected this, and got nothing")
        self._unread.remove(received)
        before, placeholder, after = self._with_reference(pattern).partition(CODE_PLACEHOLDER)
        middle = f"(?P<code>{_CODE.pattern})" if placeholder else ""
        expected = re.compile(re.escape(before) + middle + re.escape(after))
        match = expected.fullmatch(received.text)
        if match is None or received.author is not author:
            raise StoryError(f"expected this, and got: {received.text}")
        if placeholder:
            self._record_code(match["code"])

    def _record_code(self, code: str) -> None:
        self._last_code = code
        if code not in self._codes:
            self._codes.append(code)

    def _expect_no_text(self) -> None:
        if self._unread:
            extra = self._unread[0]
            raise StoryError(f"expected nothing more, and {extra.phone} got: {extra.text}")

    async def _expect_state(self, state: str) -> None:
        found = await self.sandbox.bot.database.read(conversations.find, canonical(self.phone))
        states = [
            stored.conversation.state
            for stored in found
            if stored.conversation.bot_number == BOT_NUMBER
        ]
        if states != [state]:
            raise StoryError(f"expected this state, and got: {', '.join(states) or 'none'}")

    async def _expect_status(self, status: str) -> None:
        if self._last_request is not None and self._last_request.verification is None:
            actual: str = self._last_request.outcome
        else:
            found = await self._apps.get(self._verification().id)
            actual = found.status_at(self.sandbox.clock.now()) if found else "none"
        if actual != status:
            raise StoryError(f"expected this status, and got: {actual}")

"""Conversations as readable scripts: who texts what and when, and what comes back.

One line each:

    # a remark
    # with TOKEN_ATTEMPTS=3   a setting other than the usual
    # at 2026-01-15T12:00:00+00:00  when it begins, if not at noon of that day
    > VERIFY                  the person texts
    < Textproof code: {code}. …  the bot answers; `{code}` stands for the code it sent
    * You are unsubscribed …  the carrier answers by itself
    = awaiting_code           where the conversation stands now
    /later 11m                the clock moves ahead
    /fault 500                the next thing of its kind goes wrong; `faults.py` lists what can
    /phone +13125550002       another phone texts, and is texted, from here on
    /mms TEXT, /group TEXT    the person texts with a picture, or to a group
    /ask                      an app asks that a code be texted to the phone
    /ask reference            an app asks for a reference; `{reference}` stands for it from here on
    /type {code}              somebody types this at the app, for what it asked last
    @ verified                where what it asked last stands, or why it was refused

In what the person texts, `{code}` is the code that came last, `{code:1}` the first one that came
to anyone, and `{wrong}` one that none of them is. All that comes back must be in the script: a
line that no answer follows is met with silence. Only of `/later` an answer may come before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bot.conversation.inputs import Shape
from bot.conversation.numbers import is_e164
from bot.conversation.replies import CODE_PLACEHOLDER
from bot.conversation.verification import Origin
from bot.services.verifications import VerificationRequest
from bot.simulator.clock import NOON, to_length
from bot.simulator.sandbox import BOT_NUMBER, PHONE
from bot.simulator.telnyx.journal import Author
from bot.store import conversations

if TYPE_CHECKING:
    from bot.conversation.verification import Verification
    from bot.services.verifications import RequestResult, Verifications
    from bot.simulator.sandbox import Sandbox
    from bot.simulator.telnyx.journal import PhoneText

SHAPES = {">": Shape.PLAIN, "/mms": Shape.MEDIA, "/group": Shape.GROUP}
"""The mark of a line in which the person texts, by the shape of the text."""
ANSWERS = {"<": Author.BOT, "*": Author.CARRIER}
WRONG, REFERENCE = "{wrong}", "{reference}"
WITH, AT = "# with ", "# at "
_SETTABLE = frozenset(
    {"token_length", "token_alphabet", "token_ttl", "token_attempts", "resend_cooldown"}
    | {"codes_per_hour", "codes_per_day", "app_name", "support_contact"}
)
"""No other: a stranger's script must not choose a database, or a place to send texts to."""
_CODE = re.compile(r"[0-9A-F]{4,64}")
_CODE_WORD = re.compile(r"\{code(?::(\d{1,4}))?\}")


class StoryError(Exception):
    """What happened is not what the script says; the message names the line."""


def settings_of(script: str) -> dict[str, str]:
    """Read the settings a script is played with; raises StoryError."""
    settings = {}
    for line in _directives(script, WITH):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name.lower() not in _SETTABLE:
            names = ", ".join(sorted(_SETTABLE)).upper()
            raise StoryError(f"{WITH}{line}\na story can set NAME=VALUE of: {names}")
        settings[name.lower()] = value
    return settings


def beginning_of(script: str) -> datetime:
    """Read when a script begins, in UTC; raises StoryError."""
    for line in _directives(script, AT):
        try:
            moment = datetime.fromisoformat(line)
        except ValueError:
            raise StoryError(f"{AT}{line}\na moment is like {NOON.isoformat()}") from None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return NOON


def _directives(script: str, mark: str) -> list[str]:
    return [line[len(mark) :].strip() for line in script.splitlines() if line.startswith(mark)]


@dataclass(slots=True)
class Player:
    """Plays a script line by line on a stage."""

    sandbox: Sandbox
    phone: str = PHONE
    _codes: list[str] = field(default_factory=list)
    _last_code: str = ""
    _told: int = 0
    _came: list[PhoneText] = field(default_factory=list)
    _asked: RequestResult | None = None

    async def play(self, script: str) -> None:
        """Play the whole script; raises StoryError where it turns out otherwise."""
        for number, line in enumerate(script.splitlines(), start=1):
            try:
                await self._line(line.strip())
            except (StoryError, ValueError) as error:
                raise StoryError(f"line {number}: {line.strip()}\n{error}") from error
        self._expect_silence()

    async def _line(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        match mark:
            case "" | "#":
                return
            case "<" | "*":
                self._expect(rest, ANSWERS[mark])
                return
            case "/later":
                await self.sandbox.travel(self.phone, to_length(rest))
                self._look()
                return
            case "/phone":
                if not is_e164(rest):
                    raise ValueError("a phone's number is like +13125550002")
                self.phone = rest
                return
        self._expect_silence()
        match mark:
            case ">" | "/mms" | "/group":
                await self.sandbox.text(self.phone, self._filled_in(rest), SHAPES[mark])
                self._look()
            case "/fault":
                self.sandbox.arm(rest)
            case "=":
                await self._expect_state(rest)
            case "/ask" | "/type" | "@":
                await self._app_line(mark, rest)
            case _:
                raise ValueError(
                    "a line begins with one of: # > < * = @ /later /fault /phone /mms /group"
                    " /ask /type"
                )

    async def _app_line(self, mark: str, rest: str) -> None:
        match mark, rest:
            case "/ask", "":
                self._asked = await self._apps.begin(VerificationRequest(Origin.APP, self.phone))
            case "/ask", "reference":
                self._asked = await self._apps.begin(VerificationRequest(Origin.REFERENCE))
            case "/type", code:
                await self._apps.check(self._verification().id, self._filled_in(code))
            case "@", status:
                await self._expect_status(status)
            case _:
                raise ValueError("an app asks by one of: /ask, /ask reference")
        await self.sandbox.quiet()
        self._look()

    @property
    def _apps(self) -> Verifications:
        if self.sandbox.bot.verifications is None:
            raise ValueError("no app can ask on this stage")
        return self.sandbox.bot.verifications

    def _verification(self) -> Verification:
        """Return what the app asked last; raises ValueError where that was nothing."""
        if self._asked is None or self._asked.verification is None:
            raise ValueError("no app has asked for anything yet, or it was refused")
        return self._asked.verification

    def _look(self) -> None:
        """Take note of all that has come, to whichever phone."""
        new = [text for text in self.sandbox.telnyx.texts if text.id > self._told]
        self._came += new
        self._told = max((text.id for text in new), default=self._told)

    def _filled_in(self, text: str) -> str:
        if REFERENCE in text:
            text = text.replace(REFERENCE, self._verification().reference or "")
        return _CODE_WORD.sub(self._code, text).replace(WRONG, self._wrong_code())

    def _code(self, word: re.Match[str]) -> str:
        if word[1] is None:
            return self._last_code
        number = int(word[1])
        if not 1 <= number <= len(self._codes):
            raise ValueError(f"only {len(self._codes)} codes have come so far")
        return self._codes[number - 1]

    def _wrong_code(self) -> str:
        """Make a code of the shape of the last that none of those sent is."""
        last = self._last_code
        return next(
            (other for digit in "0123456789" if (other := last[:-1] + digit) not in self._codes),
            last,
        )

    def _expect(self, pattern: str, author: Author) -> None:
        came = next((text for text in self._came if text.phone == self.phone), None)
        if came is None:
            raise StoryError("expected this, and nothing came")
        self._came.remove(came)
        before, placeholder, after = pattern.partition(CODE_PLACEHOLDER)
        middle = f"(?P<code>{_CODE.pattern})" if placeholder else ""
        expected = re.compile(re.escape(before) + middle + re.escape(after))
        match = expected.fullmatch(came.text)
        if match is None or came.author is not author:
            raise StoryError(f"expected this, and got: {came.text}")
        if placeholder:
            self._note_code(match["code"])

    def _note_code(self, code: str) -> None:
        self._last_code = code
        if code not in self._codes:
            self._codes.append(code)

    def _expect_silence(self) -> None:
        if self._came:
            extra = self._came[0]
            raise StoryError(f"expected nothing more, and {extra.phone} got: {extra.text}")

    async def _expect_state(self, state: str) -> None:
        known = await self.sandbox.bot.database.read(conversations.find, self.phone)
        stands = [
            found.conversation.state
            for found in known
            if found.conversation.bot_number == BOT_NUMBER
        ]
        if stands != [state]:
            raise StoryError(f"expected this state, and got: {', '.join(stands) or 'none'}")

    async def _expect_status(self, status: str) -> None:
        if self._asked is not None and self._asked.verification is None:
            stands: str = self._asked.outcome
        else:
            found = await self._apps.get(self._verification().id)
            stands = found.status_at(self.sandbox.clock.now()) if found else "none"
        if stands != status:
            raise StoryError(f"expected this of what an app asked, and got: {stands}")

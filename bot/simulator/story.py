"""Conversations as readable scripts: who texts what and when, and what comes back.

One line each:

    # a remark
    > VERIFY                  the person texts
    < Textproof code: {code}. …  the bot answers; `{code}` stands for the code it sent
    * You are unsubscribed …  the carrier answers by itself
    = awaiting_code           where the conversation stands now
    /later 11m                the clock moves ahead
    /phone +13125550002       another phone texts from here on
    /mms TEXT, /group TEXT    the person texts with a picture, or to a group

In what the person texts, `{code}` is the code that came last and `{wrong}` another one. All that
comes back must be in the script: a line that no answer follows is met with silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.conversation.decision import Shape
from bot.conversation.replies import CODE_PLACEHOLDER
from bot.simulator.clock import to_length
from bot.simulator.stage import BOT_NUMBER, PHONE
from bot.store import conversations

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.simulator.stage import Stage
    from bot.simulator.telnyx import PhoneText

_CODE = re.compile(r"[0-9A-F]{4,64}")
_WRONG = "{wrong}"
_SHAPES = {">": Shape.PLAIN, "/mms": Shape.MEDIA, "/group": Shape.GROUP}


class StoryError(Exception):
    """What happened is not what the script says; the message names the line."""


@dataclass(slots=True)
class Player:
    """Plays a script line by line on a stage, telling `watch` of every text as it comes."""

    stage: Stage
    watch: Callable[[str, str], None] = lambda _who, _text: None
    phone: str = PHONE
    code: str = ""
    _came: list[PhoneText] = field(default_factory=list)

    async def play(self, script: str) -> None:
        """Play the whole script; raises StoryError where it turns out otherwise."""
        for number, line in enumerate(script.splitlines(), start=1):
            try:
                await self._line(line.strip())
            except (StoryError, ValueError) as error:
                raise StoryError(f"line {number}: {line.strip()}\n{error}") from error
        self._expect_silence()

    async def text(self, text: str, shape: Shape = Shape.PLAIN) -> list[PhoneText]:
        """Text from the current phone, and remember what comes back."""
        self.watch("person", text)
        return self._note(await self.stage.text(self.phone, text, shape))

    async def later(self, length: str) -> list[PhoneText]:
        """Move the clock ahead by a length like `11m`, and remember what then comes."""
        return self._note(await self.stage.travel(self.phone, to_length(length)))

    async def _line(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        match mark:
            case "" | "#":
                return
            case "<" | "*":
                self._expect(rest, by_carrier=mark == "*")
                return
        self._expect_silence()
        match mark:
            case ">" | "/mms" | "/group":
                await self.text(self._filled_in(rest), _SHAPES[mark])
            case "/later":
                await self.later(rest)
            case "/phone":
                self.phone = rest
            case "=":
                await self._expect_state(rest)
            case _:
                raise ValueError("a line begins with one of: # > < * = /later /phone /mms /group")

    def _note(self, came: list[PhoneText]) -> list[PhoneText]:
        for text in came:
            self.watch("carrier" if text.by_carrier else "bot", text.text)
        self._came = list(came)
        return came

    def _filled_in(self, text: str) -> str:
        return text.replace(CODE_PLACEHOLDER, self.code).replace(_WRONG, _other_than(self.code))

    def _expect(self, pattern: str, *, by_carrier: bool) -> None:
        if not self._came:
            raise StoryError("expected this, and nothing came")
        came = self._came.pop(0)
        before, placeholder, after = pattern.partition(CODE_PLACEHOLDER)
        middle = f"(?P<code>{_CODE.pattern})" if placeholder else ""
        expected = re.compile(re.escape(before) + middle + re.escape(after))
        match = expected.fullmatch(came.text)
        if match is None or came.by_carrier is not by_carrier:
            raise StoryError(f"expected this, and got: {came.text}")
        if placeholder:
            self.code = match["code"]

    def _expect_silence(self) -> None:
        if self._came:
            raise StoryError(f"expected nothing more, and got: {self._came[0].text}")

    async def _expect_state(self, state: str) -> None:
        known = await self.stage.bot.database.read(conversations.find, self.phone)
        stands = [
            found.conversation.state
            for found in known
            if found.conversation.bot_number == BOT_NUMBER
        ]
        if stands != [state]:
            raise StoryError(f"expected this state, and got: {', '.join(stands) or 'none'}")


def _other_than(code: str) -> str:
    """Make a code of the same shape that is not this one."""
    return code[:-1] + ("1" if code[-1:] != "1" else "2")

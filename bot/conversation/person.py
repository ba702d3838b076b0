"""A person: what belongs to a phone at all of the bot's numbers, and what NOT ME changes in it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.limits import MAX_CLOCK_SKEW
from bot.conversation.verification import Origin

if TYPE_CHECKING:
    from datetime import datetime

NOT_ME_REACH = timedelta(days=1)
"""How far back NOT ME reaches, for codes and successes, and how late it may arrive."""
APP_REFUSAL = timedelta(hours=1)
"""How long NOT ME refuses the codes that apps ask for, and those of references."""
FORM_REFUSALS = (timedelta(hours=1), timedelta(days=1), timedelta(days=30))
"""How long the first, the second and each further NOT ME refuses the form's codes: anybody can type
a number there."""
NOT_ME_MEMORY = timedelta(days=30)
"""How long after the last NOT ME the next one counts as the first again."""
OWN_CODE_INTERVAL = timedelta(days=1)
"""How often VERIFY brings a code while NOT ME refuses others: a sender can be forged."""


class Person(Struct, frozen=True):
    """The facts about a phone that hold at all of the bot's numbers. Times are UTC.

    `opted_out_at` and `opted_in_at` are when the last STOP and START were texted, as the carrier
    received them. `verified_at` is the latest success that stands; `verified_alone_at` is when the
    code of the latest plain VERIFY was texted, if that success stands.

    `not_me_at` is when the last NOT ME that cancelled anything was texted, `not_mes` how many such
    there were, each within `NOT_ME_MEMORY` of the one before. `cancelled_at` is when the last one
    was decided: it has ended all codes sent before. `own_code_at` is when VERIFY brought a code in
    spite of NOT ME, if no reply with it has come since.
    """

    opted_out: bool = False
    opted_out_at: datetime | None = None
    opted_in_at: datetime | None = None
    opt_out_wording: str | None = None
    verified_at: datetime | None = None
    verified_alone_at: datetime | None = None
    not_me_at: datetime | None = None
    not_mes: int = 0
    cancelled_at: datetime | None = None
    own_code_at: datetime | None = None

    @property
    def has_opted_in(self) -> bool:
        """Return whether a START is on record that no opt-out follows."""
        return self.opted_in_at is not None and not self.opted_out

    def refused_until(self, origin: Origin) -> datetime | None:
        """Return until when NOT ME refuses codes that are asked for in a way; None if it does not.

        That time may have passed.
        """
        form_ends = self._form_refused_until()
        if form_ends is None or self.not_me_at is None:
            return None
        match origin:
            case Origin.FORM:
                return form_ends
            case Origin.APP | Origin.REFERENCE:
                return self.not_me_at + APP_REFUSAL
            case Origin.PERSON:
                own = self.own_code_at
                return None if own is None else min(own + OWN_CODE_INTERVAL, form_ends)

    def _form_refused_until(self) -> datetime | None:
        """Return the end of the longest refusal; None if there is none, or a reply has ended it."""
        if self.not_me_at is None:
            return None
        if self.verified_alone_at is not None and self.verified_alone_at >= self.not_me_at:
            return None
        return self.not_me_at + FORM_REFUSALS[min(self.not_mes, len(FORM_REFUSALS)) - 1]

    def refuses(self, origin: Origin, now: datetime) -> bool:
        """Return whether NOT ME refuses a code that is asked for in a way at `now`."""
        until = self.refused_until(origin)
        return until is not None and now < until

    def with_own_code(self, now: datetime) -> Person:
        """Return the person after a code text at `now` that VERIFY has brought."""
        until = self._form_refused_until()
        return replace(self, own_code_at=now) if until is not None and now < until else self

    def with_not_me(self, at: datetime, now: datetime) -> Person:
        """Return the person after a NOT ME, texted at `at`, that cancels codes and successes."""
        last = self.not_me_at
        counts = last is not None and at - last <= NOT_ME_MEMORY
        alone = _before(self.verified_alone_at, at - NOT_ME_REACH)
        return replace(
            self,
            not_me_at=at if last is None else max(at, last),
            not_mes=self.not_mes + 1 if counts else 1,
            cancelled_at=now,
            verified_at=_before(self.verified_at, at - NOT_ME_REACH) or alone,
            verified_alone_at=alone,
        )

    def clamped(self, now: datetime) -> Person:
        """Return the person without refusals from the future, which a wrong clock leaves behind."""
        latest = now + MAX_CLOCK_SKEW
        times = {
            "not_me_at": self.not_me_at,
            "cancelled_at": self.cancelled_at,
            "own_code_at": self.own_code_at,
        }
        ahead = {name: now for name, time in times.items() if time is not None and time > latest}
        return replace(self, **ahead) if ahead else self


def _before(moment: datetime | None, since: datetime) -> datetime | None:
    return None if moment is None or moment > since else moment


NOTHING_KNOWN = Person()
"""A person of whom nothing is kept."""

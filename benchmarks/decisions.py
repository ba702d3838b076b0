"""The time of a decision, for the usual inputs, compared with verifying a webhook's signature.

Everything runs in this process, without a database; the signature is measured in turns with the
decisions, since the speed of a shared machine changes.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import click
from nacl.signing import SigningKey

from bot.conversation.codes import Keyring
from bot.conversation.decision import Decision, decide
from bot.conversation.inputs import CodeRequested, CodeSubmitted, TextReceived, TimePassed
from bot.conversation.policy import Policy
from bot.conversation.state import NOTHING_USED, Conversation
from bot.conversation.verification import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.conversation.inputs import Input

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
BOT, PHONE = "+13125550100", "+13125550199"
BODY = bytes(1500)
"""As long as a usual webhook."""
SIGNATURE = "verify a signature"
_KEYRING = Keyring(["a secret of the benchmark that is long enough"])
_POLICY = Policy()
_NEW = Decision(Conversation(BOT, PHONE), NOTHING_USED)


class _Case(NamedTuple):
    """An input after an earlier decision."""

    before: Decision
    incoming: Input


@click.command("decisions")
@click.option("--times", default=1000, show_default=True, help="Decisions in each measurement.")
@click.option("--rounds", default=15, show_default=True, help="Rounds of measurement.")
def measure(*, times: int, rounds: int) -> None:
    """Measure the time of a decision, compared with verifying a webhook's signature.

    Prints the median of each in microseconds, and the median of the ratios round by round.
    """
    subjects = {SIGNATURE: _verification(), **{n: _decision(c) for n, c in _cases().items()}}
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            taken[name].append(_time(subject, times))
    click.echo("| input | µs | / signature |\n|---|---|---|")
    for name, seconds in taken.items():
        ratios = [a / b for a, b in zip(seconds, taken[SIGNATURE], strict=True)]
        click.echo(
            f"| {name} | {statistics.median(seconds) * 1e6:.1f} | {statistics.median(ratios):.2f} |"
        )


def _time(subject: Callable[[], object], times: int) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    for _ in range(times):
        subject()
    return (time.perf_counter() - start) / times


def _verification() -> Callable[[], object]:
    key = SigningKey.generate()
    signature = key.sign(BODY).signature
    return lambda: key.verify_key.verify(BODY, signature)


def _decision(case: _Case) -> Callable[[], object]:
    return lambda: _decide(case.before, case.incoming)


def _decide(before: Decision, incoming: Input) -> Decision:
    return decide(
        before.conversation,
        before.limits,
        incoming,
        now=NOW,
        policy=_POLICY,
        keyring=_KEYRING,
        new_token_id="0" * 32,
        channel_limits=before.channel_limits,
    )


def _cases() -> dict[str, _Case]:
    """Return the usual inputs, each after what comes before it."""
    awaiting = _decide(_NEW, _text("VERIFY"))
    own = awaiting.conversation.token
    asked = _decide(_NEW, CodeRequested("v", Origin.APP))
    (other,) = asked.conversation.verification_tokens
    if own is None:
        raise ValueError("VERIFY got no code")
    code, app_code = (_KEYRING.code(token, BOT, PHONE) for token in (own, other))
    wrong = f"{(int(code) + 1) % 10**6:06}"
    return {
        "VERIFY": _Case(_NEW, _text("VERIFY")),
        "the right code": _Case(awaiting, _text(code)),
        "a wrong code": _Case(awaiting, _text(wrong)),
        "a used code": _Case(_decide(awaiting, _text(code)), _text(code)),
        "STATUS": _Case(awaiting, _text("STATUS")),
        "STOP": _Case(awaiting, _text("STOP")),
        "something else": _Case(_NEW, _text("hello, who is this?")),
        "an app requests a code": _Case(_NEW, CodeRequested("v", Origin.APP)),
        "an app submits the right code": _Case(asked, CodeSubmitted("v", app_code)),
        "time that passes": _Case(awaiting, TimePassed()),
    }


def _text(text: str) -> TextReceived:
    return TextReceived(text, received_at=NOW)

"""`bot security`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bot.cli.common import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.conversation.guessing import Bounds, Comparisons
    from bot.conversation.policy import Policy
    from bot.settings import Settings

_WIDTHS = (-33, 13, 21, 14, 14)
"""Of the columns, in characters; a negative one is aligned to the left."""
_HEADINGS = (
    ("", "comparisons", "", "chance", ""),
    ("", "in a day", "in a year", "in a day", "in a year"),
)
_NOTES = """\
A comparison is one guess compared with one live code. The table has the most that the limits allow,
and the greatest chance that one of so many is right. 8 + 32 + 10 are comparisons with codes of the
length that you have set, and with the longer ones to which the codes of a channel grow for a phone.
- Wrong guesses and locks are counted for each phone in each channel: by text, by each API key, and
  at the form. Another key adds as much as the first one.
- A guess by text is compared with every live code that was asked for by text, one with letters only
  with that of the request of an app or the form that has shown them.
- Codes that have grown stay long after a success, so an owner who verifies every day, and gives the
  tries of a channel back each time, changes little.
- The form's codes are limited for all phones together (WEB_CODES_PER_DAY). Beyond that only numbers
  that were verified before get one, each with limits of its own. Codes of apps, and those requested
  by text, are limited only for each phone.
- Test numbers have fixed codes and are not included."""
_NAMES = {"text": "by text", "keys": "by one API key", "form": "at the form"}
"""The names of the classes of channels."""


@click.command()
def security() -> None:
    """Print the chance that guessing verifies a phone, for the settings in force."""
    from bot.settings import Settings

    click.echo(report(read_settings(Settings)))


def report(settings: Settings) -> str:
    """Return the report on some settings."""
    policy = _policy_of(settings)
    return "\n".join(
        [
            *_rule(settings, policy),
            "",
            *map(_row, _HEADINGS),
            *_one_phone(policy),
            *_all_phones(policy, with_form=settings.web_form),
            "",
            _NOTES,
        ]
    )


def _rule(settings: Settings, policy: Policy) -> list[str]:
    from bot.conversation import guessing

    code_format, limits = policy.code_format, (policy.codes_per_day, policy.attempts)
    figure = guessing.shown(guessing.chance_per_day(code_format, *limits))
    rule = "CODES_PER_DAY={} x TOKEN_ATTEMPTS={} / possible codes".format(*limits)
    chosen = f"TOKEN_LENGTH={code_format.length}, TOKEN_ALPHABET={code_format.alphabet}"
    allowed = ", but ALLOW_WEAK_CODES=on" if settings.weakness else ""
    return [
        f"possible codes   {guessing.possible_codes(code_format):,} ({chosen})",
        f"start-up rule    {rule} = {figure}",
        f"                 at most {guessing.shown(guessing.MAX_CHANCE_PER_DAY)}{allowed}",
    ]


def _one_phone(policy: Policy) -> list[str]:
    from bot.conversation import guessing
    from bot.conversation.channels import ChannelClass

    lines = ["one phone"]
    for owner_verifies in (False, True):
        lines.append(f"  the owner {'verifies every day' if owner_verifies else 'does not verify'}")
        for channel in ChannelClass:
            bounds = guessing.for_phone(policy, channel, owner_verifies=owner_verifies)
            lines.append(_bounded(f"    {_NAMES[channel]}", bounds))
        together = guessing.for_phone_in_all_channels(policy, owner_verifies=owner_verifies)
        lines.append(_bounded("    all three together", together))
    return lines


def _all_phones(policy: Policy, *, with_form: bool) -> list[str]:
    from msgspec.structs import replace

    from bot.conversation import guessing

    unbounded = [_row((f"  by {name}", *["unbounded"] * 4)) for name in ("text", "apps")]
    form = "  by the form, unverified numbers"
    bounds = guessing.at_form(policy if with_form else replace(policy, form_codes_per_day=0))
    return ["all phones together", *unbounded, _bounded(form, bounds)]


def _policy_of(settings: Settings) -> Policy:
    """Return the rules that limit guessing."""
    from bot.conversation.policy import Policy
    from bot.conversation.state import CodeFormat

    return Policy(
        code_format=CodeFormat(settings.token_length, settings.token_alphabet),
        attempts=settings.token_attempts,
        codes_per_hour=settings.codes_per_hour,
        codes_per_day=settings.codes_per_day,
        form_codes_per_day=settings.web_codes_per_day,
    )


def _bounded(name: str, bounds: Bounds) -> str:
    both = (bounds.day, bounds.year)
    chances = [f"{100 * float(each.chance):.4g} %" for each in both]
    return _row((name, *map(_numbers, both), *chances))


def _numbers(comparisons: Comparisons) -> str:
    """Return the comparisons with codes of each length, without those of which there are none."""
    numbers = [number for _, number in comparisons.numbers if number]
    return " + ".join(f"{number:,}" for number in numbers) or "0"


def _row(cells: Sequence[str]) -> str:
    return "".join(
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, width in zip(cells, _WIDTHS, strict=True)
    ).rstrip()

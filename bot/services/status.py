"""What an operator sees: how many people stand where, and where one phone stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.conversation.state import State
from bot.store import conversations, outbox

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from bot.conversation.state import Conversation


def overview(connection: Connection) -> str:
    """Count conversations and texts by their states, and say why texts wait."""
    verified, states = conversations.counts(connection)
    lines = [f"verified at some time: {verified}", "", "conversations:"]
    lines += [f"  {state:<14} {states.get(state, 0):>9}" for state in State]
    lines += ["", "texts:"]
    lines += [f"  {state:<14} {count:>9}" for state, count in outbox.counts(connection).items()]
    faults = outbox.queued_faults(connection)
    if faults:
        lines += ["", "texts that wait after a fault, by Telnyx's error code:"]
        lines += [f"  {fault:<24} {count:>9}" for fault, count in faults.items()]
    return "\n".join(lines)


def of_phone(connection: Connection, phone: str, now: datetime) -> str:
    """Tell of each conversation of a phone (E.164): its state, since when verified, last text."""
    known = conversations.find(connection, phone)
    if not known:
        return f"{phone} has never texted this bot"
    return "\n\n".join(
        _describe(found.conversation, outbox.last_text(connection, found.id), now)
        for found in known
    )


def _describe(conversation: Conversation, last: outbox.Text | None, now: datetime) -> str:
    since = conversation.verified_at
    lines = [
        f"{conversation.phone} with {conversation.bot_number}",
        f"  state      {conversation.state}{_remark(conversation, now)}",
        f"  verified   {f'since {_moment(since)}' if since else 'never'}",
    ]
    if last is None:
        return "\n".join([*lines, "  last text  none"])
    fault = f" ({last.fault})" if last.fault else ""
    lines.append(f"  last text  {last.reply}, {last.state}{fault}, {_moment(last.created_at)}")
    return "\n".join(lines)


def _remark(conversation: Conversation, now: datetime) -> str:
    """Say what time has changed since the state was written: it is noticed at the next text."""
    token = conversation.token
    if conversation.state is State.AWAITING_CODE and token and not token.works_at(now):
        return " (the code has expired)"
    return ""


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

"""One input, decided by `bot.conversation`, with what the keyring saw meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation import guards
from bot.conversation.codes import Keyring
from bot.conversation.context import Context
from bot.conversation.decision import Decision, decide, pass_time
from bot.conversation.inputs import DeliveryFailed, channel_of
from bot.conversation.replies import Reply
from bot.conversation.state import ChannelLimits, CodeDelivery, Conversation, PhoneLimits, Token
from bot.conversation.transitions import transition_of
from tests.proof.exhaustive.facts import Side, tokens_of
from tests.proof.exhaustive.offers import elsewhere

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.transitions import Transition
    from tests.proof.exhaustive.offers import Offer
    from tests.proof.exhaustive.scopes import Scope


_SECRETS = ["s" * 32]
_KEYRING = Keyring(_SECRETS)


class RecordingKeyring(Keyring):
    """A keyring that records each comparison of a guess, and derives each code once."""

    def __init__(self) -> None:
        super().__init__(_SECRETS)
        self.compared: list[Token] = []
        self._codes: dict[tuple[str, str, str], str] = {}

    def code(self, token: Token, bot_number: str, phone: str) -> str:
        key = token.id, bot_number, phone
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = super().code(token, bot_number, phone)
        return code

    def matches(self, guess: str, token: Token, bot_number: str, phone: str) -> bool:
        self.compared.append(token)
        return super().matches(guess, token, bot_number, phone)


class Edge(Struct, frozen=True):
    """An input to one number: the facts before it, the decision, and the side after it.

    `limits` are those by text, `web_limits` those of the app: its counts and its code texts.
    `compared` are the tokens with which the guess was compared, as they were then. The tokens
    before and after it are by id; `changed` are the new and changed ones, `used` and `ended` those
    to which that happened.
    """

    before: Side
    limits: PhoneLimits
    web_limits: PhoneLimits
    offer: Offer
    now: datetime
    scope: Scope
    decision: Decision
    compared: tuple[Token, ...]
    after: Side
    limits_after: PhoneLimits
    web_limits_after: PhoneLimits
    tokens_before: dict[str, Token]
    tokens_after: dict[str, Token]
    reply: Reply | None
    changed: tuple[Token, ...]
    used: tuple[Token, ...]
    ended: tuple[Token, ...]


def make(  # noqa: PLR0913 - an edge is made of all of these
    side: Side,
    limits: PhoneLimits,
    web_limits: PhoneLimits,
    offer: Offer,
    *,
    now: datetime,
    scope: Scope,
    keyring: RecordingKeyring,
) -> Edge:
    """Decide one input."""
    keyring.compared = []
    decision = decide(
        _with_delivery(side.conversation, offer),
        _of_phone(limits, web_limits),
        offer.incoming,
        now=now,
        policy=scope.policy,
        keyring=keyring,
        new_token_id=offer.new_token,
        channel_limits=_of_key(web_limits),
        person=side.person,
    )
    opted_out = (side.opted_out or offer.opts_out) and not offer.opts_in
    reply = decision.message.reply if decision.message else None
    confirmed = opted_out and (reply is Reply.STOPPED or (side.confirmed and side.opted_out))
    before = {token.id: token for token in tokens_of(side.conversation)}
    after = {token.id: token for token in tokens_of(decision.conversation)}
    changed = tuple(token for token in after.values() if token is not before.get(token.id))
    return Edge(
        side,
        limits,
        web_limits,
        offer,
        now,
        scope,
        decision,
        tuple(keyring.compared),
        Side(decision.conversation, decision.person, opted_out, confirmed),
        _by_text(decision),
        _by_app(web_limits if not offer.by_app else decision.channel_limits, decision),
        before,
        after,
        reply,
        changed,
        tuple(token for token in changed if token.used_at and not _had(before, token, "used_at")),
        tuple(token for token in changed if token.ended_at and not _had(before, token, "ended_at")),
    )


def _of_phone(limits: PhoneLimits, web_limits: PhoneLimits) -> PhoneLimits:
    """Return the limits of a phone: the code texts of both channels belong to it."""
    return replace(limits, key_code_times=web_limits.code_times)


def _of_key(web_limits: PhoneLimits) -> ChannelLimits:
    return ChannelLimits(web_limits.wrong_guesses, web_limits.locks, web_limits.locked_until)


def _by_text(decision: Decision) -> PhoneLimits:
    """Return the limits by text; without what only growth and closing read, which are off here."""
    return replace(decision.limits, key_code_times=(), failures=0, wrong_times=())


def _by_app(counts: ChannelLimits, decision: Decision) -> PhoneLimits:
    """Return the limits of the app: its counts and locks, and its code texts."""
    return PhoneLimits(
        wrong_guesses=counts.wrong_guesses,
        locks=counts.locks,
        locked_until=counts.locked_until,
        code_times=decision.limits.key_code_times,
    )


def follow(edge: Edge, other: Side, keyring: RecordingKeyring) -> Edge | None:
    """Decide what follows at the other number, if anything does."""
    incoming = edge.decision.elsewhere
    if incoming is None:
        return None
    informed = replace(other, person=edge.decision.person)
    return make(
        informed,
        edge.limits_after,
        edge.web_limits_after,
        elsewhere(incoming, informed),
        now=edge.now,
        scope=edge.scope,
        keyring=keyring,
    )


def row_of(edge: Edge) -> Transition | None:
    """Return the row of the table that an edge has followed, or None if the input was ignored."""
    context = pass_time(
        Context(
            _with_delivery(edge.before.conversation, edge.offer),
            _of_phone(edge.limits, edge.web_limits),
            _of_key(edge.web_limits),
            edge.before.person,
            edge.now,
            edge.scope.policy,
            _KEYRING,
            edge.offer.new_token,
            channel_of(edge.offer.incoming),
        )
    ).context
    return transition_of(context.state, guards.read(context, edge.offer.incoming).event)


def _had(before: dict[str, Token], token: Token, time: str) -> bool:
    """Return whether a token had a time before."""
    return token.id in before and getattr(before[token.id], time) is not None


def _with_delivery(conversation: Conversation, offer: Offer) -> Conversation:
    """Return the conversation as loaded after a delivery failed: the outbox has recorded that."""
    if not isinstance(offer.incoming, DeliveryFailed):
        return conversation
    own, others = conversation.token, conversation.verification_tokens
    return replace(
        conversation,
        token=own and _undelivered(own, offer.incoming.token),
        verification_tokens=tuple(_undelivered(token, offer.incoming.token) for token in others),
    )


def _undelivered(token: Token, token_id: str) -> Token:
    return replace(token, text=CodeDelivery.FAILED) if token.id == token_id else token

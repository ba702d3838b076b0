"""The inputs that can be made: each kind of text, app request, delivery result and time.

Texts with the same meaning are offered once: `tests/conversation/test_intents.py` checks the words.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from msgspec import Struct

from bot.conversation import person as person_rules
from bot.conversation.inputs import (
    AutoReply,
    Cancelled,
    CodeRequested,
    CodeSubmitted,
    DeliveryFailed,
    OptedOutAtCarrier,
    ReferenceLookup,
    ResendRequested,
    Shape,
    TextReceived,
    TimePassed,
)
from bot.conversation.verification import Complete, Origin, ReplyRule
from tests.proof.exhaustive.facts import Side, tokens_of
from tests.proof.exhaustive.scopes import NOW, NUMBERS, QUARTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.inputs import Input
    from bot.conversation.state import Conversation, Token
    from tests.proof.exhaustive.scopes import Scope

APP, REFERENCE = "app", "reference"
"""The verifications: one by an app, one by a reference."""
ENDED = "ended"
"""A verification that has ended long ago, and its token."""
_INSTANT = QUARTER / 900
_WITH_REFERENCE = "VERIFY 7Q2K42"


class Kind(Enum):
    """What an input means to the person or the app, for `invariants.REASONS`."""

    VERIFY = auto()
    RESEND = auto()
    REFERENCE = auto()
    STATUS = auto()
    HELP = auto()
    START = auto()
    STOP = auto()
    NOT_ME = auto()
    RIGHT_CODE = auto()
    WRONG_CODE = auto()
    MISTYPED = auto()
    CHATTER = auto()
    APP_CODE = auto()
    APP_RESEND = auto()
    SUBMISSION = auto()
    CANCEL = auto()
    NO_WORDS = auto()
    """Not the person's own words to the bot: reactions, groups, keywords that the carrier answers,
    delivery results, time."""
    OUTDATED = auto()
    """A text that is older than a STOP, START or NOT ME that was decided already."""
    ELSEWHERE = auto()
    """What follows an input at the other number."""


class Offer(Struct, frozen=True):
    """An input that can be made, and what is known of it without the bot's rules.

    `code_of` is the token whose right code it carries, and `letters` the letters beside the code.
    `letters_of` is the token of those letters, if there is one. `opts_out` and `opts_in` are
    whether it is a STOP or START that counts. `new_token` is the id of the token that it may issue,
    and `only_free` the verification that must not have begun.
    """

    name: str
    kind: Kind
    incoming: Input
    code_of: Token | None = None
    letters: str = ""
    letters_of: Token | None = None
    opts_out: bool = False
    opts_in: bool = False
    new_token: str = "new"
    only_free: str = ""

    @property
    def by_app(self) -> bool:
        """Return whether it is an app's request."""
        return self.kind in _APP_KINDS


_APP_KINDS = frozenset({Kind.APP_CODE, Kind.APP_RESEND, Kind.SUBMISSION, Kind.CANCEL})


def _texts(*named: tuple[str, Kind]) -> tuple[Offer, ...]:
    return tuple(Offer(text, kind, TextReceived(text)) for text, kind in named)


_PLAIN = (
    *_texts(
        ("VERIFY", Kind.VERIFY),
        ("RESEND", Kind.RESEND),
        ("STATUS", Kind.STATUS),
        ("HELP", Kind.HELP),
        ("12345", Kind.MISTYPED),
        ("hello", Kind.CHATTER),
        ("thanks", Kind.NO_WORDS),
    ),
    Offer("START", Kind.START, TextReceived("START"), opts_in=True),
    Offer("STOP", Kind.STOP, TextReceived("STOP"), opts_out=True),
    Offer("STOP in a group", Kind.STOP, TextReceived("STOP", Shape.GROUP), opts_out=True),
    Offer("VERIFY in a group", Kind.NO_WORDS, TextReceived("VERIFY", Shape.GROUP)),
    Offer(
        "STOP, answered by the carrier",
        Kind.NO_WORDS,
        TextReceived("STOP", auto_reply=AutoReply.STOP),
        opts_out=True,
    ),
    Offer(
        "START, answered by the carrier",
        Kind.NO_WORDS,
        TextReceived("START", auto_reply=AutoReply.START),
        opts_in=True,
    ),
    Offer(
        "HELP, answered by the carrier",
        Kind.NO_WORDS,
        TextReceived("HELP", auto_reply=AutoReply.OTHER),
    ),
    Offer("blocked by the carrier", Kind.NO_WORDS, OptedOutAtCarrier("40300"), opts_out=True),
    Offer("time passes", Kind.NO_WORDS, TimePassed()),
)
_NOT_ME = Offer("NOT ME", Kind.NOT_ME, TextReceived("NOT ME"))
_OF_ENDED = (
    Offer("delivery of an ended token failed", Kind.NO_WORDS, DeliveryFailed(ENDED)),
    Offer("an app resends an ended one", Kind.APP_RESEND, ResendRequested(ENDED)),
    Offer("an app submits for an ended one", Kind.SUBMISSION, CodeSubmitted(ENDED, "123456")),
    Offer("an app cancels an ended one", Kind.CANCEL, Cancelled(ENDED)),
)


def elsewhere(incoming: Input, side: Side) -> Offer:
    """Return what follows at a number after an input at the other one."""
    stopped = side.person.opted_out
    blocked = side.conversation.blocked_at is not None
    return Offer(
        "an input at the other number",
        Kind.ELSEWHERE,
        incoming,
        opts_out=stopped,
        opts_in=not stopped and not blocked and isinstance(incoming, TimePassed),
    )


class Names(Struct, frozen=True):
    """The names that new tokens and verifications get: `suffix` makes them new in a replay."""

    suffix: str = ""

    def of(self, name: str) -> str:
        """Return the full name."""
        return f"{name}{self.suffix}"


PLAIN_NAMES = Names()


def offers(
    side: Side,
    scope: Scope,
    keyring: Keyring,
    *,
    now: datetime = NOW,
    names: Names = PLAIN_NAMES,
) -> Iterator[Offer]:
    """Return the inputs that can be made at one number of the bot."""
    conversation = side.conversation
    yield from (_renamed(offer, names) for offer in _PLAIN)
    if scope.not_me:
        yield _NOT_ME
    known = [
        token
        for token in tokens_of(conversation)
        if token.ended_at is None or token.expires_at > now
    ]
    yield from _codes(conversation, known, keyring)
    for token in known:
        name = f"delivery of the {_owner(token)} code failed"
        yield Offer(name, Kind.NO_WORDS, DeliveryFailed(token.id))
    if scope.app:
        app = names.of(APP)
        incoming = CodeRequested(app, Origin.APP, Complete.REPLY)
        yield Offer("an app requests a code", Kind.APP_CODE, incoming, new_token=app, only_free=APP)
    if scope.reference:
        yield from _references(known, names)
    if scope.app or scope.reference:
        yield from _OF_ENDED
        yield from _requests(conversation, known, keyring)
    if scope.old_texts:
        yield from _old_texts(side, now, scope, names)


def _renamed(offer: Offer, names: Names) -> Offer:
    if not names.suffix:
        return offer
    return _with(offer, new_token=names.of(offer.new_token))


def _with(offer: Offer, **facts: object) -> Offer:
    values = {name: getattr(offer, name) for name in offer.__struct_fields__}
    return Offer(**(values | facts))


def _owner(token: Token) -> str:
    owner = {Origin.APP: "app's", Origin.REFERENCE: "reference's"}.get(token.origin, "own")
    return f"ended {owner}" if token.ended_at else owner


def _codes(conversation: Conversation, known: list[Token], keyring: Keyring) -> Iterator[Offer]:
    for token in known:
        code = keyring.code(token, conversation.bot_number, conversation.phone)
        owner = _owner(token)
        yield Offer(f"the {owner} code", Kind.RIGHT_CODE, TextReceived(code), token)
    wrong = wrong_code(conversation, known, keyring)
    yield Offer("a wrong code", Kind.WRONG_CODE, TextReceived(wrong))
    yield from _codes_with_letters(conversation, known, keyring)
    if known:
        yield Offer("a code with a picture", Kind.CHATTER, TextReceived(code, Shape.MEDIA))
        yield Offer("a code in a group", Kind.NO_WORDS, TextReceived(code, Shape.GROUP))


def _codes_with_letters(
    conversation: Conversation, known: list[Token], keyring: Keyring
) -> Iterator[Offer]:
    """Return all codes, and a wrong one, with the letters of each app's request and with others."""
    wrong = wrong_code(conversation, known, keyring)
    asked = [token for token in known if token.reply_rule is ReplyRule.LETTERS]
    letters_of: dict[str, Token | None] = {
        keyring.letters(token.verification or "", token.letters_index): token for token in asked
    }
    unknown = next(letters for letters in ("GH", "HG", "JK") if letters not in letters_of)
    for letters, owner in (letters_of | {unknown: None}).items():
        beside = f"the {_owner(owner)} letters" if owner else "unknown letters"
        yield Offer(
            f"a wrong code with {beside}",
            Kind.WRONG_CODE,
            TextReceived(f"{wrong} {letters}"),
            letters=letters,
            letters_of=owner,
        )
        for token in known:
            code = keyring.code(token, conversation.bot_number, conversation.phone)
            yield Offer(
                f"the {_owner(token)} code with {beside}",
                Kind.RIGHT_CODE,
                TextReceived(f"{code} {letters}"),
                token,
                letters,
                owner,
            )


def wrong_code(conversation: Conversation, known: list[Token], keyring: Keyring) -> str:
    """Return a wrong code: the one that a token would have at another number, if there is one."""
    if not known:
        return "314159"
    elsewhere = next(number for number in NUMBERS if number != conversation.bot_number)
    wrong = keyring.code(known[0], elsewhere, conversation.phone)
    right = [keyring.code(token, conversation.bot_number, conversation.phone) for token in known]
    if wrong in right or len(set(right)) < len(right):
        raise AssertionError("two codes are equal by chance: choose other names for the tokens")
    return wrong


def _references(known: list[Token], names: Names) -> Iterator[Offer]:
    begun = next((each.verification for each in known if each.origin is Origin.REFERENCE), None)
    for name, lookup in (
        ("an unknown reference", None),
        ("a spent reference", ReferenceLookup(ENDED, available=False, begun_here=False)),
        (
            "a reference begun by this phone",
            ReferenceLookup(begun or ENDED, available=False, begun_here=True),
        ),
    ):
        incoming = TextReceived(_WITH_REFERENCE, reference=lookup)
        yield Offer(f"VERIFY with {name}", Kind.REFERENCE, incoming, new_token=names.of("new"))
    new = names.of(REFERENCE)
    free = ReferenceLookup(new, available=True, begun_here=False)
    yield Offer(
        "VERIFY with a free reference",
        Kind.REFERENCE,
        TextReceived(_WITH_REFERENCE, reference=free),
        new_token=new,
        only_free=REFERENCE,
    )


def _requests(conversation: Conversation, known: list[Token], keyring: Keyring) -> Iterator[Offer]:
    """Return the requests of apps for verifications that have a token."""
    wrong = wrong_code(conversation, known, keyring)
    for token in known:
        if token.verification is None:
            continue
        owner, id_ = _owner(token), token.verification
        yield Offer(f"resend the {owner} code", Kind.APP_RESEND, ResendRequested(id_))
        yield Offer(f"cancel the {owner} code", Kind.CANCEL, Cancelled(id_))
        yield Offer(
            f"wrong, typed for the {owner} code", Kind.SUBMISSION, CodeSubmitted(id_, wrong)
        )
        yield Offer(f"mistyped for the {owner} code", Kind.SUBMISSION, CodeSubmitted(id_, "12345"))
        for other in known:
            code = keyring.code(other, conversation.bot_number, conversation.phone)
            yield Offer(
                f"the {_owner(other)} code, typed for the {owner} code",
                Kind.SUBMISSION,
                CodeSubmitted(id_, code),
                code_of=other,
            )


def _old_texts(side: Side, now: datetime, scope: Scope, names: Names) -> Iterator[Offer]:
    """Return texts that arrive after a later one was decided, and some that still count."""

    def text(name: str, words: str, at: datetime, auto_reply: AutoReply | None = None) -> Offer:
        incoming = TextReceived(words, auto_reply=auto_reply, received_at=at)
        return Offer(name, Kind.OUTDATED, incoming, new_token=names.of("new"))

    person = side.person
    stopped, started = person.opted_out_at, person.opted_in_at
    if stopped is not None:
        yield text("a START as old as the last STOP", "START", stopped)
        yield text(
            "a START as old as the last STOP, answered by the carrier",
            "START",
            stopped,
            AutoReply.START,
        )
        yield text("a VERIFY as old as the last STOP", "VERIFY", stopped)
    if person.not_me_at is not None:
        yield text("a VERIFY as old as the last NOT ME", "VERIFY", person.not_me_at)
        yield text("a START as old as the last NOT ME", "START", person.not_me_at)
    # After a later STOP, an older one changes nothing.
    if started is not None and not side.opted_out:
        older = started - _INSTANT
        yield text("a STOP older than the last START", "STOP", older)
        yield text(
            "a STOP older than the last START, answered by the carrier",
            "STOP",
            older,
            AutoReply.STOP,
        )
        counts = text("a STOP as old as the last START", "STOP", started)
        yield _with(counts, kind=Kind.STOP, opts_out=True)
    if not scope.not_me:
        return
    yield text("a NOT ME that is too old", "NOT ME", now - person_rules.NOT_ME_REACH)
    late = text("a NOT ME of a quarter of an hour ago", "NOT ME", now - QUARTER)
    overridden = person.verified_alone_at is not None and person.verified_alone_at > now - QUARTER
    yield late if overridden else _with(late, kind=Kind.NOT_ME)

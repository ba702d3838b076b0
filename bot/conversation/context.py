"""The facts of a decision as one value, with simple questions about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation import channels
from bot.conversation.channels import TEXT, Channel
from bot.conversation.state import CodeFormat
from bot.conversation.verification import Origin, ReplyRule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.person import Person
    from bot.conversation.policy import Policy
    from bot.conversation.state import ChannelLimits, Conversation, PhoneLimits, State, Token


class Context(Struct, frozen=True):
    """The facts of one conversation and its person, the time, and the rules.

    `limits` are those of the phone, and its counts by text. `channel` is that of the input, and
    `channel_limits` are the phone's counts there, if it is not `text`. `new_token_id` is for a
    token that may be issued. `code_expired` means that the last live code has ended by time alone,
    just now, and that the person had asked for it by text. Times are UTC.
    """

    conversation: Conversation
    limits: PhoneLimits
    channel_limits: ChannelLimits
    person: Person
    now: datetime
    policy: Policy
    keyring: Keyring
    new_token_id: str
    channel: Channel = TEXT
    code_expired: bool = False

    @property
    def state(self) -> State:
        """Return the state of the conversation."""
        return self.conversation.state

    @property
    def tokens(self) -> tuple[Token, ...]:
        """Return all relevant tokens, the person's own first."""
        own, others = self.conversation.token, self.conversation.verification_tokens
        return others if own is None else (own, *others)

    @property
    def live_tokens(self) -> list[Token]:
        """Return the tokens whose codes still work."""
        return [token for token in self.tokens if self.is_live(token)]

    @property
    def own_token(self) -> Token | None:
        """Return the live token that the person requested, not an app."""
        own = self.conversation.token
        return own if own is not None and self.is_live(own) else None

    @property
    def current_token(self) -> Token | None:
        """Return the live token for a text that names none: the person's own, else the newest.

        Codes that an app or the form asked for are left out.
        """
        if own := self.own_token:
            return own
        others = self.conversation.verification_tokens
        alone = (each for each in reversed(others) if each.awaits_code_alone and self.is_live(each))
        return next(alone, None)

    @property
    def code_format(self) -> CodeFormat:
        """Return the format of the current code, or of the next one."""
        token = self.current_token
        return token.format if token else self.next_format(self.limits)

    @property
    def code_formats(self) -> Iterable[CodeFormat]:
        """Return the formats in which a text may have a code, the most likely one first."""
        known = (token.format for token in self.tokens)
        return dict.fromkeys((self.code_format, *known, self.policy.code_format))

    def next_format(self, *limits: ChannelLimits) -> CodeFormat:
        """Return the format of a new code that must be as long as each of the channels requires."""
        base = self.policy.code_format
        length = max(self.least_length(each) for each in limits)
        return base if length <= base.length else CodeFormat(length, base.alphabet)

    def least_length(self, limits: ChannelLimits) -> int:
        """Return how long codes must be after the wrong guesses of a channel.

        It is 0 after few, and for a test number, whose codes are fixed.
        """
        length = self.policy.least_length(limits, self.now)
        return 0 if length and self.keyring.is_test(self.conversation.phone) else length

    def comparisons_left(self, limits: ChannelLimits, token: Token) -> int | None:
        """Return how many wrong comparisons with a token a channel has left; None: no limit."""
        left = self.policy.comparisons_left(limits, token.format.length, self.now)
        if left is not None and self.keyring.is_test(self.conversation.phone):
            return None
        return left

    @property
    def tries_left(self) -> int:
        """Return how many wrong guesses the person may still text before a lock."""
        return self.policy.tries_left(self.limits, self.own_token)

    def tries_by_text(self, token: Token | None) -> int:
        """Return how many wrong guesses by text a token has left, before any lock or its end."""
        tries = self.policy.tries_left(self.limits, token)
        if token is None:
            return tries
        left = self.comparisons_left(self.limits, token)
        if left is None:
            return tries
        letters = self.letters_for(token)
        compared = len(self.tokens_for_reply(letters, token.format.length)) if letters == "" else 1
        return min(tries, -(-left // max(1, compared)))

    def tries_to_type(self, token: Token) -> int:
        """Return how many wrong codes may still be typed for a token in the input's channel."""
        left = [self.comparisons_left(each, token) for each in self.limits_of_typing(token)]
        tries = self.policy.tries_left(self.channel_limits, token)
        return min([tries, *(each for each in left if each is not None)])

    def limits_of_typing(self, token: Token) -> tuple[ChannelLimits, ...]:
        """Return the limits whose comparisons a code that is typed for a token counts in.

        A code that was asked for by text counts there too, so that it grows as well.
        """
        return (self.limits, self.channel_limits) if token.by_text else (self.channel_limits,)

    @property
    def channel_closed(self) -> bool:
        """Return whether the channel of the input is closed for this phone."""
        until = self.limits.closed_until(self.channel)
        return until is not None and self.now < until

    @property
    def class_of_channel(self) -> channels.ChannelClass:
        """Return the class of the input's channel."""
        return channels.class_of(self.channel)

    @property
    def verify_works_at(self) -> datetime | None:
        """Return when VERIFY gets a new code: after any lock, NOT ME and limit; None means now."""
        ends = (self.limits.text_locked_until, self.code_by_text_at(Origin.PERSON))
        return max((end for end in ends if end is not None), default=None)

    def code_by_text_at(self, origin: Origin) -> datetime | None:
        """Return when a text may bring a code, alone or with a reference; None means at once."""
        ends = (self.policy.next_code_at(self.limits), self.person.refused_until(origin))
        return max((end for end in ends if end is not None), default=None)

    def code_sent_after(self, moment: datetime) -> bool:
        """Return whether a code was texted to the phone after a time of the last day."""
        limits = self.limits
        times = (*limits.code_times, *limits.key_code_times, *limits.form_code_times)
        return any(time > moment for time in times)

    def is_live(self, token: Token) -> bool:
        """Return whether a token's code still works."""
        works = token.key_id in self.keyring and token.works_at(self.now)
        if not works or not self.limits.allows(token):
            return False
        return not token.by_text or token.format.length >= self.least_length(self.limits)

    def is_usable(self, token: Token) -> bool:
        """Return whether a token's code still works and has a try left."""
        return token.guesses < self.policy.attempts and self.is_live(token)

    def token_of(self, verification: str | None) -> Token | None:
        """Return the token of a verification (its id), or the person's own for None."""
        for token in self.tokens:
            if token.verification == verification:
                return token
        return None

    def tokens_for_reply(self, letters: str, length: int) -> list[Token]:
        """Return the live tokens with which a reply is compared: those of its letters, if any.

        `length` is that of the code in the reply. Of tokens that grow too short meanwhile, only as
        many are compared as texts have comparisons left: the person's own, then the newest.
        """
        own, others = self.conversation.token, self.conversation.verification_tokens
        found = [
            token
            for token in (*([own] if own else []), *reversed(others))
            if token.format.length == length
            and self.letters_for(token) == letters
            and self.is_live(token)
        ]
        left = self.comparisons_left(self.limits, found[0]) if found else None
        return found if left is None else found[:left]

    def letters_for(self, token: Token) -> str | None:
        """Return the letters that a reply with a token's code must have: "" for a code alone.

        None means that no reply is compared with it.
        """
        if token.reply_rule is ReplyRule.LETTERS:
            return self.keyring.letters(token.verification or "", token.letters_index)
        return "" if token.awaits_code_alone else None

    def with_tokens(self, *changed: Token) -> Context:
        """Return the context with new tokens, and with others in place of earlier values."""
        conversation = self.conversation
        own, others = conversation.token, conversation.verification_tokens
        for token in changed:
            if token.verification is None:
                own = token
            else:
                others = tuple({each.verification: each for each in (*others, token)}.values())
        return replace(
            self, conversation=replace(conversation, token=own, verification_tokens=others)
        )

    def with_guess_counted(self, compared: Collection[str]) -> Context:
        """Return the context after a guess by text, counted for the phone and tokens (by id)."""
        wrong_guesses = self.limits.wrong_guesses + 1
        counted = [
            replace(token, guesses=token.guesses + 1)
            for token in self.tokens
            if token.id in compared
        ]
        return replace(
            self.with_tokens(*counted), limits=replace(self.limits, wrong_guesses=wrong_guesses)
        )

"""The facts of a decision as one value, with simple questions about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from bot.conversation.verification import Origin, ReplyRule

if TYPE_CHECKING:
    from datetime import datetime

    from bot.conversation.codes import Keyring
    from bot.conversation.policy import Policy
    from bot.conversation.state import CodeFormat, Conversation, PhoneLimits, State, Token


class Context(Struct, frozen=True):
    """The facts of one conversation, the time, and the rules.

    `limits` are those of the phone's own texts, `web_limits` those of apps and the form for this
    phone. `new_token_id` is for a token that may be issued. `code_expired` means that the last live
    code has ended by time alone, just now, and that the person had asked for it by text. Times are
    UTC.
    """

    conversation: Conversation
    limits: PhoneLimits
    web_limits: PhoneLimits
    now: datetime
    policy: Policy
    keyring: Keyring
    new_token_id: str
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
        return next((each for each in reversed(others) if self._awaits_code_alone(each)), None)

    @property
    def code_format(self) -> CodeFormat:
        """Return the format of the current code, or of the next one."""
        token = self.current_token
        return token.format if token else self.policy.code_format

    @property
    def tries_left(self) -> int:
        """Return how many wrong guesses the person may still text before a lock."""
        return self.policy.tries_left(self.limits, self.own_token)

    @property
    def verify_works_at(self) -> datetime | None:
        """Return when VERIFY gets a new code: after any lock, NOT ME and limit; None means now."""
        ends = (self.limits.locked_until, self.policy.next_code_at(self.limits))
        return max((end for end in ends if end is not None), default=None)

    def is_live(self, token: Token) -> bool:
        """Return whether a token's code still works."""
        works = token.key_id in self.keyring and token.works_at(self.now)
        return works and self.limits.allows(token, self.now)

    def is_usable(self, token: Token) -> bool:
        """Return whether a token's code still works and has a try left."""
        return token.guesses < self.policy.attempts and self.is_live(token)

    def token_of(self, verification: str | None) -> Token | None:
        """Return the token of a verification (its id), or the person's own for None."""
        for token in self.tokens:
            if token.verification == verification:
                return token
        return None

    def tokens_for_reply(self, letters: str) -> list[Token]:
        """Return the live tokens with which a reply is compared: those of its letters, if any."""
        return [token for token in self.live_tokens if self.letters_for(token) == letters]

    def _awaits_code_alone(self, token: Token) -> bool:
        return self.letters_for(token) == "" and self.is_live(token)

    def letters_for(self, token: Token) -> str | None:
        """Return the letters that a reply with a token's code must have: "" for a code alone.

        None means that no reply is compared with it.
        """
        if token.reply_rule is ReplyRule.LETTERS:
            return self.keyring.letters(token.verification or "", token.letters_index)
        by_text = token.origin in (Origin.PERSON, Origin.REFERENCE)
        return "" if by_text and token.reply_rule is ReplyRule.CODE else None

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

    def with_guess_counted(self, letters: str) -> Context:
        """Return the context after a guess by text, counted for the phone and each token."""
        wrong_guesses = self.limits.wrong_guesses + 1
        compared = self.tokens_for_reply(letters)
        counted = [replace(token, guesses=token.guesses + 1) for token in compared]
        return replace(
            self.with_tokens(*counted), limits=replace(self.limits, wrong_guesses=wrong_guesses)
        )

from __future__ import annotations

import pytest

from bot.conversation.replies import Reply
from tests.conversation.person import RIGHT, WRONG, Person


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def awaiting() -> Person:
    someone = Person()
    assert someone.texts("VERIFY") is Reply.CODE
    return someone


@pytest.fixture
def verified() -> Person:
    someone = Person()
    assert someone.plays("VERIFY", RIGHT) is Reply.SUCCESS
    return someone


@pytest.fixture
def locked() -> Person:
    someone = Person()
    assert someone.plays("VERIFY", *[WRONG] * 5) is Reply.LOCKED
    return someone


@pytest.fixture
def opted_out() -> Person:
    someone = Person()
    assert someone.plays("VERIFY", "STOP") is Reply.STOPPED
    return someone

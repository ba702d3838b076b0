"""Channels: the ways in which codes are asked for and guessed, each with limits of its own.

A stranger can use somebody's number in each of them, at a different cost: texts can be forged, the
form is open to everybody, an app has a key. So what happens in one must not limit the others.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

Channel = NewType("Channel", str)
"""The name of a channel, as apps see it: `text`, `form`, or `api:` and the public id of a key."""
TEXT, FORM = Channel("text"), Channel("form")
_API = "api:"
UNKNOWN_KEY = Channel(_API)
"""The channel of an app whose key is not known."""
MAX_CHANNEL_LENGTH = 24


class ChannelClass(StrEnum):
    """The channels that share the codes of a day: texts, all keys together, the form."""

    TEXT = "text"
    KEYS = "keys"
    FORM = "form"


def of_key(public_id: str) -> Channel:
    """Return the channel of an API key, by its public id."""
    return Channel(f"{_API}{public_id}")


def class_of(channel: Channel) -> ChannelClass:
    """Return the class of a channel."""
    if channel == TEXT:
        return ChannelClass.TEXT
    return ChannelClass.FORM if channel == FORM else ChannelClass.KEYS

"""The settings: environment variables and `.env`, read once, all mistakes reported together.

A field's description says what is expected: the error for a wrong value quotes it.
"""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import phonenumbers
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from bot.conversation import guessing
from bot.conversation.numbers import is_e164
from bot.conversation.replies import GSM7_BASIC, MAX_APP_NAME_LENGTH, MAX_SUPPORT_CONTACT_LENGTH
from bot.conversation.state import Alphabet, CodeFormat

if TYPE_CHECKING:
    from fractions import Fraction
    from typing import Self

_PUBLIC_KEY_LENGTH = 32
_EXPLAINED = "explained"
"""The type of a mistake whose message is the whole line: it concerns several settings."""
_CODE_SETTINGS = {"token_alphabet", "token_length", "token_attempts", "codes_per_day"}
_MIN_SECRET_LENGTH, _MIN_SECRET_CHARACTERS = 32, 10
_PUBLISHED_SECRETS = (
    "0123456789abcdef0123456789abcdef",
    "5f0c2f4be7a94d0f8a5a0f3c1d2e4b6a",
    "K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    "secrets.token_urlsafe(48)",
)
"""What stands in the documentation and could be taken for a key: examples, and the command that
makes one."""
_MIN_EVENTS_SECRET_LENGTH, _MAX_EVENTS_SECRET_LENGTH = 24, 64
_MAX_DIGITS = 10
_MAX_PORT = 65535
_SSL_MODES = (None, "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PRINTABLE = re.compile("[!-~]+")
_WEB_ADDRESS = re.compile(r"https?://[^/\s]+(/\S*)?")


class SettingsError(Exception):
    """Some settings are missing or wrong; the message has a line for each, without its value."""


def _split(value: object) -> object:
    """Split a comma-separated list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _public_key(value: object) -> object:
    if isinstance(value, bytes):
        return value
    try:
        key = base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if len(key) != _PUBLIC_KEY_LENGTH:
        raise ValueError("not 32 bytes")
    return key


def _is_repeated_block(text: str) -> bool:
    """Return whether a text is a block twice or more, of which the last may be cut off."""
    return any(text.startswith(text[block:]) for block in range(1, len(text) // 2 + 1))


def _secret(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if len(secret) < _MIN_SECRET_LENGTH or not secret.isprintable():
        raise ValueError("too short")
    if len(set(secret)) < _MIN_SECRET_CHARACTERS or _is_repeated_block(secret):
        raise ValueError("not random")
    if any(published in secret for published in _PUBLISHED_SECRETS):
        raise ValueError("published")
    return value


def _number(value: str) -> str:
    if not is_e164(value):
        raise ValueError("not E.164")
    return value


def _country_code(value: str) -> str:
    code = value.removeprefix("+")
    is_number = code.isascii() and code.isdecimal()
    if not is_number or int(code) not in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
        raise ValueError("unknown")
    return f"+{int(code)}"


def _one_segment(value: str) -> str:
    if not GSM7_BASIC.issuperset(value) or "\n" in value or "\r" in value:
        raise ValueError("not in GSM-7")
    return value.strip()


def _web_address(value: str) -> str:
    if not _WEB_ADDRESS.fullmatch(value):
        raise ValueError("not a web address")
    return value.rstrip("/")


def _database_url(value: object) -> URL:
    if isinstance(value, URL):
        return value
    try:
        url = make_url(str(value))
    except ArgumentError:
        raise ValueError("not a URL") from None
    if url.drivername in ("postgres", "postgresql", "postgresql+asyncpg"):
        return _for_asyncpg(url)
    in_file = url.database not in (None, "", ":memory:") and not url.query
    if url.drivername == "sqlite+aiosqlite" and in_file:
        return url
    raise ValueError("unknown database")


def _for_asyncpg(url: URL) -> URL:
    """Return the URL with asyncpg's names for the driver and the parameters of libpq."""
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    for ignored in ("application_name", "channel_binding", "connect_timeout"):
        query.pop(ignored, None)
    unknown = (
        not query.keys() <= {"ssl", "host", "port", "pgbouncer"}
        or query.get("ssl") not in _SSL_MODES
        or query.get("pgbouncer", "true") not in ("true", "false")
    )
    if unknown or not 0 < (url.port or 1) <= _MAX_PORT:
        raise ValueError("unknown parameter")
    return url.set(drivername="postgresql+asyncpg", query=query)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _api_key(value: SecretStr) -> SecretStr:
    key = SecretStr(value.get_secret_value().strip())
    if not _PRINTABLE.fullmatch(key.get_secret_value()):
        raise ValueError("not a key")
    return key


def _on_or_off(value: object) -> object:
    values = {"on": True, "off": False}
    return values.get(value.strip().lower(), value) if isinstance(value, str) else value


def _test_numbers(value: object) -> object:
    """Split `+15005550006=123456, …` into numbers and codes."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(is_e164(number.strip()) and code.strip() for number, _, code in pairs):
        raise ValueError("not numbers with codes")
    return {number.strip(): code.strip().upper() for number, _, code in pairs}


def _optional_address(value: str) -> str:
    return value and _web_address(value)


def _page_address(value: str) -> str:
    """Check the address of a page, which is linked exactly as given."""
    parts = urlsplit(value)
    has_host = parts.hostname and parts.port != 0 and "@" not in parts.netloc
    if value and not (_WEB_ADDRESS.fullmatch(value) and has_host):
        raise ValueError("not a web address")
    return value


def _public_address(value: str) -> str:
    address = _optional_address(value)
    if urlsplit(address).path or "@" in address:
        raise ValueError("not an origin")
    return address


def _events_secret(value: SecretStr) -> SecretStr:
    """Check for 24 to 64 bytes in base64 (Standard Webhooks, "Signature scheme")."""
    encoded = value.get_secret_value().removeprefix("whsec_")
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if not _MIN_EVENTS_SECRET_LENGTH <= len(secret) <= _MAX_EVENTS_SECRET_LENGTH:
        raise ValueError("not 24 to 64 bytes")
    return value


def _region(value: str) -> str:
    if value.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("unknown country")
    return value.upper()


def _weak_codes(figure: Fraction, needed_length: int) -> str:
    return (
        "TOKEN_LENGTH is too short: CODES_PER_DAY x TOKEN_ATTEMPTS / possible codes is"
        f" {guessing.shown(figure)}, and at most {guessing.shown(guessing.MAX_CHANCE_PER_DAY)} is"
        f" allowed; expected a length of at least {needed_length}, fewer codes or attempts,"
        " or ALLOW_WEAK_CODES=on to accept the risk"
    )


CommaSeparated = (NoDecode, BeforeValidator(_split), Field(min_length=1))
PublicKey = Annotated[bytes, BeforeValidator(_public_key)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Number = Annotated[str, AfterValidator(_number)]
Region = Annotated[str, AfterValidator(_region)]
Network = IPv4Network | IPv6Network
EventsSecret = Annotated[SecretStr, AfterValidator(_events_secret)]
CountryCode = Annotated[str, AfterValidator(_country_code)]


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        frozen=True,
    )

    @classmethod
    def read(cls) -> Self:
        """Read the environment; raise SettingsError, which names every mistake."""
        try:
            return cls()
        except ValidationError as error:
            raise SettingsError(cls._explain(error)) from None
        except UnicodeDecodeError:
            raise SettingsError(".env is wrong; expected a text file in UTF-8") from None

    @classmethod
    def _explain(cls, error: ValidationError) -> str:
        """Return a line for each wrong variable: what is expected, never its value."""
        lines: dict[str, str] = {}
        for mistake in error.errors(include_input=False, include_context=False, include_url=False):
            if mistake["type"] == _EXPLAINED:
                lines[mistake["msg"]] = mistake["msg"]
                continue
            name = str(mistake["loc"][0])
            problem = "is missing" if mistake["type"] == "missing" else "is wrong"
            field = next(field for key, field in cls.model_fields.items() if name.lower() == key)
            lines[name.upper()] = f"{name.upper()} {problem}; expected {field.description}"
        return "\n".join(lines.values())


class DatabaseSettings(_Environment):
    """The settings that every command reads."""

    database_url: Annotated[URL, NoDecode, BeforeValidator(_database_url)] = Field(
        default="sqlite+aiosqlite:///bot.db",
        validate_default=True,
        description="sqlite+aiosqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        " (optionally with ?sslmode=… or ?pgbouncer=true)",
    )
    country_code: CountryCode = Field(
        default="+1",
        description="the calling code, like +1, of numbers that are typed without one",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field(default="info", description="debug, info, warning or error")
    )
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        default="console", description="console or json"
    )

    @property
    def sqlite_file(self) -> Path | None:
        """Return the file of an SQLite database, or None for PostgreSQL."""
        url = self.database_url
        return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


class UnlockSettings(DatabaseSettings):
    """The settings of `bot unlock`, which reports to the app."""

    events_url: str = Field(
        default="", description="the web address of your app to which events are sent"
    )


class StatusSettings(DatabaseSettings):
    """The settings that `bot status` reads."""

    web_form: Annotated[bool, BeforeValidator(_on_or_off)] = Field(
        default=False, description="on or off"
    )
    web_codes_per_day: int = Field(default=500, ge=0, le=1_000_000, description="0 to 1000000")

    @property
    def form_budget(self) -> int | None:
        """Return how many codes the web form may send in a day; None without a form."""
        return self.web_codes_per_day if self.web_form else None


class Settings(StatusSettings):
    """The settings of `bot serve` and `bot work`."""

    telnyx_api_key: Annotated[SecretStr, AfterValidator(_api_key)] = Field(
        description="an API key from the Telnyx portal"
    )
    telnyx_public_key: Annotated[tuple[PublicKey, ...], *CommaSeparated] = Field(
        description="the public key from the Telnyx portal (base64 of 32 bytes);"
        " several, comma-separated, while one replaces another",
    )
    telnyx_base_url: Annotated[str, AfterValidator(_web_address)] = Field(
        default="https://api.telnyx.com/v2", description="the web address of Telnyx's API"
    )
    from_number: Annotated[tuple[Number, ...], *CommaSeparated] = Field(
        description="the bot's numbers in E.164, like +13125550100, comma-separated;"
        " the first is the default",
    )
    secret_key: Annotated[tuple[Secret, ...], *CommaSeparated] = Field(
        description="a random string of at least 32 characters, known only to the bot"
        " (no repeated block, at least 10 different characters, not from the documentation);"
        " several, comma-separated, while one replaces another, the new one first; to make one:"
        """ python -c "import secrets; print(secrets.token_urlsafe(48))\"""",
    )
    host: str = Field(default="0.0.0.0", description="the address to listen on")  # noqa: S104
    port: int = Field(default=8080, ge=0, le=65535, description="a port from 0 to 65535")
    token_alphabet: Annotated[Alphabet, BeforeValidator(_lower)] = Field(
        default=Alphabet.DIGITS, description="digits or hex"
    )
    token_length: int = Field(
        default=6,
        ge=4,
        le=64,
        description="4 to 10 characters, with TOKEN_ALPHABET=hex up to 64",
    )
    token_ttl: int = Field(default=600, ge=1, le=3600, description="1 to 3600 seconds")
    token_attempts: int = Field(default=5, ge=1, le=10, description="1 to 10 wrong guesses")
    resend_cooldown: int = Field(
        default=30, ge=0, le=3600, description="0 to 3600 seconds; 0 turns it off"
    )
    codes_per_hour: int = Field(default=5, ge=1, le=100, description="1 to 100 codes")
    codes_per_day: int = Field(default=10, ge=1, le=100, description="1 to 100 codes")
    allow_weak_codes: Annotated[bool, BeforeValidator(_on_or_off)] = Field(
        default=False, validate_default=True, description="on or off"
    )
    app_name: Annotated[str, AfterValidator(_one_segment), Field(min_length=1)] = Field(
        default="Textproof",
        max_length=MAX_APP_NAME_LENGTH,
        description=f"at most {MAX_APP_NAME_LENGTH} characters that every phone can show"
        " (letters, digits, simple punctuation), so that a text costs one segment",
    )
    support_contact: Annotated[str, AfterValidator(_one_segment)] = Field(
        default="",
        max_length=MAX_SUPPORT_CONTACT_LENGTH,
        description=f"at most {MAX_SUPPORT_CONTACT_LENGTH} characters that every phone can show:"
        " an email address, a phone number or a website, named in replies to HELP",
    )
    send_rate_account: float = Field(
        default=50,
        ge=0,
        le=10000,
        description="texts a second from all numbers together (Telnyx's limit is 50),"
        " or 0 for no limit",
    )
    send_rate_per_number: float = Field(
        default=0, ge=0, le=10000, description="texts a second from each number, or 0 for no limit"
    )

    test_numbers: Annotated[dict[str, str], NoDecode, BeforeValidator(_test_numbers)] = Field(
        default_factory=dict,
        description="test numbers with their codes, like +15005550006=123456, comma-separated;"
        " each code of TOKEN_LENGTH and TOKEN_ALPHABET",
    )
    public_url: Annotated[str, AfterValidator(_public_address)] = Field(
        default="",
        description="this bot's own web address for people, like https://verify.example.com",
    )
    terms_url: Annotated[str, AfterValidator(_page_address)] = Field(
        default="",
        description="the web address of your terms, like https://example.com/terms, which the web"
        " form links to",
    )
    privacy_url: Annotated[str, AfterValidator(_page_address)] = Field(
        default="",
        description="the web address of your privacy policy, like https://example.com/privacy,"
        " which the web form links to",
    )
    allowed_countries: Annotated[tuple[Region, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="two-letter country codes, like US,CA; if empty, the countries of FROM_NUMBER",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="IP addresses or networks, like 10.0.0.0/8, whose X-Forwarded-For is trusted",
    )
    events_url: Annotated[str, AfterValidator(_optional_address)] = Field(
        default="", description="the web address of your app to which events are sent"
    )
    events_secret: Annotated[tuple[EventsSecret, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        validate_default=True,
        description="if EVENTS_URL is set, a Standard Webhooks secret (whsec_ and the base64 of"
        " 24 to 64 bytes); several, comma-separated, while one replaces another",
    )
    events_to_private: Annotated[bool, BeforeValidator(_on_or_off)] = Field(
        default=False,
        validate_default=True,
        description="on or off: whether EVENTS_URL may be on this machine or a private network;"
        " must be on if EVENTS_URL begins with http:",
    )

    @property
    def weakness(self) -> Fraction | None:
        """Return the figure of the start-up rule if it is too large, and allowed all the same."""
        code_format = CodeFormat(self.token_length, self.token_alphabet)
        figure = guessing.chance_per_day(code_format, self.codes_per_day, self.token_attempts)
        return figure if figure > guessing.MAX_CHANCE_PER_DAY else None

    @field_validator("token_length")
    @classmethod
    def _check_token_length(cls, value: int, info: ValidationInfo[Any]) -> int:
        if info.data.get("token_alphabet") is Alphabet.DIGITS and value > _MAX_DIGITS:
            raise ValueError("too long for digits")
        return value

    @field_validator("allow_weak_codes")
    @classmethod
    def _check_chance_of_guessing(cls, value: bool, info: ValidationInfo[Any]) -> bool:  # noqa: FBT001 - pydantic calls it
        known = info.data
        if value or not known.keys() >= _CODE_SETTINGS:
            return value
        limits = known["codes_per_day"], known["token_attempts"]
        code_format = CodeFormat(known["token_length"], known["token_alphabet"])
        figure = guessing.chance_per_day(code_format, *limits)
        if figure > guessing.MAX_CHANCE_PER_DAY:
            needed = guessing.shortest_length(code_format.alphabet, *limits)
            raise PydanticCustomError(_EXPLAINED, "{line}", {"line": _weak_codes(figure, needed)})
        return value

    @field_validator("test_numbers")
    @classmethod
    def _check_test_codes(cls, value: dict[str, str], info: ValidationInfo[Any]) -> dict[str, str]:
        if "token_length" not in info.data or "token_alphabet" not in info.data:
            return value
        symbols = "[0-9A-F]" if info.data["token_alphabet"] is Alphabet.HEX else "[0-9]"
        pattern = re.compile(f"{symbols}{{{info.data['token_length']}}}")
        if not all(map(pattern.fullmatch, value.values())):
            raise ValueError("wrong length or alphabet")
        return value

    @field_validator("events_secret")
    @classmethod
    def _check_secret_is_set(
        cls, value: tuple[SecretStr, ...], info: ValidationInfo[Any]
    ) -> tuple[SecretStr, ...]:
        if info.data.get("events_url") and not value:
            raise PydanticCustomError("missing", "missing")
        return value

    @field_validator("events_to_private")
    @classmethod
    def _check_https(cls, value: bool, info: ValidationInfo[Any]) -> bool:  # noqa: FBT001 - pydantic calls it
        if info.data.get("events_url", "").startswith("http:") and not value:
            raise ValueError("not https")
        return value

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import traceback
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from bot.conversation.replies import MAX_APP_NAME_LENGTH, MAX_SUPPORT_CONTACT_LENGTH
from bot.conversation.state import Alphabet
from bot.settings import DatabaseSettings, Settings, SettingsError
from tests.kit.secret_keys import NEXT_SECRET, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL

PUBLIC_KEY, NEXT_PUBLIC_KEY = bytes(range(32)), bytes(range(32, 64))
VARIABLES = [name.upper() for name in Settings.model_fields]


CODE_SETTINGS = {"TOKEN_LENGTH", "TOKEN_ALPHABET", "TOKEN_ATTEMPTS", "CODES_PER_DAY"}


def base64_of(key: bytes) -> str:
    return base64.b64encode(key).decode()


NEEDED = {
    "TELNYX_API_KEY": "KEY0123",
    "TELNYX_PUBLIC_KEY": base64_of(PUBLIC_KEY),
    "FROM_NUMBER": "+13125550100",
    "SECRET_KEY": SECRET,
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work without a .env file and without the bot's variables."""
    monkeypatch.chdir(tmp_path)
    for name in (*VARIABLES, *(variable.lower() for variable in VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def read(variables: dict[str, str] | None = None) -> Settings:
    with mock.patch.dict(os.environ, NEEDED | (variables or {})):
        return Settings.read()


def mistakes(variables: dict[str, str], kind: type[DatabaseSettings] = Settings) -> str:
    with mock.patch.dict(os.environ, variables), pytest.raises(SettingsError) as found:
        kind.read()
    return str(found.value)


def named_in(message: str) -> list[str]:
    return [line.split()[0] for line in message.splitlines()]


def test_the_settings_are_exactly_these() -> None:
    assert set(VARIABLES) == {
        "TEST_NUMBERS",
        "PUBLIC_URL",
        "WEB_FORM",
        "WEB_CODES_PER_DAY",
        *("TERMS_URL", "PRIVACY_URL"),
        "ALLOWED_COUNTRIES",
        "TRUSTED_PROXIES",
        "EVENTS_URL",
        "EVENTS_SECRET",
        "EVENTS_TO_PRIVATE",
        *("TELNYX_API_KEY", "TELNYX_PUBLIC_KEY", "TELNYX_BASE_URL", "FROM_NUMBER", "SECRET_KEY"),
        *("DATABASE_URL", "HOST", "PORT", "COUNTRY_CODE", "TOKEN_LENGTH", "TOKEN_ALPHABET"),
        *("TOKEN_TTL", "TOKEN_ATTEMPTS", "RESEND_COOLDOWN", "CODES_PER_HOUR", "CODES_PER_DAY"),
        "ALLOW_WEAK_CODES",
        *("APP_NAME", "SUPPORT_CONTACT", "SEND_RATE_ACCOUNT", "SEND_RATE_PER_NUMBER"),
        *("LOG_LEVEL", "LOG_FORMAT"),
    }


def test_four_variables_are_required_and_the_others_have_defaults() -> None:
    known = read()

    assert known.telnyx_api_key.get_secret_value() == "KEY0123"
    assert known.telnyx_public_key == (PUBLIC_KEY,)
    assert known.from_number == ("+13125550100",)
    assert [secret.get_secret_value() for secret in known.secret_key] == [SECRET]
    assert known.telnyx_base_url == "https://api.telnyx.com/v2"
    assert shown(known.database_url) == "sqlite+aiosqlite:///bot.db"
    assert (known.host, known.port) == ("0.0.0.0", 8080)  # noqa: S104 - the documented default
    assert known.country_code == "+1"
    assert (known.token_length, known.token_alphabet) == (6, Alphabet.DIGITS)
    assert (known.token_ttl, known.token_attempts) == (600, 5)
    assert known.resend_cooldown == 30
    assert (known.codes_per_hour, known.codes_per_day) == (5, 10)
    assert not known.allow_weak_codes
    assert (known.app_name, known.support_contact) == ("Textproof", "")
    assert (known.send_rate_account, known.send_rate_per_number) == (50, 0)
    assert (known.log_level, known.log_format) == ("info", "console")


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def secrets_of(known: Settings) -> list[str]:
    return [secret.get_secret_value() for secret in known.secret_key]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TELNYX_BASE_URL", "http://127.0.0.1:9000/v2/", "http://127.0.0.1:9000/v2"),
        ("TELNYX_BASE_URL", "https://telnyx.example/v2", "https://telnyx.example/v2"),
        ("FROM_NUMBER", "+4915112345678", ("+4915112345678",)),
        ("FROM_NUMBER", "+13125550100,+13125550101", ("+13125550100", "+13125550101")),
        ("FROM_NUMBER", " +13125550100 , +13125550101 , ", ("+13125550100", "+13125550101")),
        ("HOST", "127.0.0.1", "127.0.0.1"),
        ("HOST", "::", "::"),
        ("PORT", "0", 0),
        ("PORT", "65535", 65535),
        ("COUNTRY_CODE", "+44", "+44"),
        ("COUNTRY_CODE", "49", "+49"),
        ("COUNTRY_CODE", "+1", "+1"),
        ("TOKEN_LENGTH", "6", 6),
        ("TOKEN_LENGTH", "10", 10),
        ("TOKEN_ALPHABET", "hex", Alphabet.HEX),
        ("TOKEN_TTL", "1", 1),
        ("TOKEN_TTL", "3600", 3600),
        ("TOKEN_ATTEMPTS", "1", 1),
        ("RESEND_COOLDOWN", "0", 0),
        ("CODES_PER_HOUR", "1", 1),
        ("CODES_PER_DAY", "20", 20),
        ("ALLOW_WEAK_CODES", "on", True),
        ("ALLOW_WEAK_CODES", "off", False),
        ("APP_NAME", "Caf\u00e9 & Co.", "Caf\u00e9 & Co."),
        ("APP_NAME", "x" * MAX_APP_NAME_LENGTH, "x" * MAX_APP_NAME_LENGTH),
        ("SUPPORT_CONTACT", "help@example.com", "help@example.com"),
        ("SUPPORT_CONTACT", "x" * MAX_SUPPORT_CONTACT_LENGTH, "x" * MAX_SUPPORT_CONTACT_LENGTH),
        ("TERMS_URL", "https://example.com/terms/", "https://example.com/terms/"),
        (
            "PRIVACY_URL",
            "http://example.com?page=privacy#sms",
            "http://example.com?page=privacy#sms",
        ),
        ("SEND_RATE_ACCOUNT", "0", 0),
        ("SEND_RATE_PER_NUMBER", "20", 20),
        ("SEND_RATE_ACCOUNT", "0.1", 0.1),
        ("SEND_RATE_ACCOUNT", "1000", 1000),
        ("LOG_LEVEL", "debug", "debug"),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("LOG_LEVEL", "Error", "error"),
        ("LOG_FORMAT", "json", "json"),
    ],
)
def test_a_valid_value_is_accepted(variable: str, value: str, expected: object) -> None:
    assert getattr(read({variable: value}), variable.lower()) == expected


REFUSED = [
    ("TELNYX_PUBLIC_KEY", "not base64!"),
    ("TELNYX_PUBLIC_KEY", base64_of(PUBLIC_KEY[:31])),
    ("TELNYX_PUBLIC_KEY", base64_of(PUBLIC_KEY + b"x")),
    ("TELNYX_PUBLIC_KEY", PUBLIC_KEY.hex()),
    ("TELNYX_PUBLIC_KEY", base64_of(PUBLIC_KEY) + "," + base64_of(PUBLIC_KEY)[:-4]),
    ("TELNYX_PUBLIC_KEY", "\u00e9" * 44),
    ("TELNYX_PUBLIC_KEY", ","),
    ("TELNYX_BASE_URL", "api.telnyx.com/v2"),
    ("TELNYX_BASE_URL", "ftp://api.telnyx.com"),
    ("FROM_NUMBER", "13125550100"),
    ("FROM_NUMBER", "+1 312 555 0100"),
    ("FROM_NUMBER", "+0312555010"),
    ("FROM_NUMBER", "12345"),
    ("FROM_NUMBER", "Textproof"),
    ("FROM_NUMBER", "+13125550100;+13125550101"),
    ("FROM_NUMBER", "+13125550100,3125550101"),
    ("FROM_NUMBER", " , ,"),
    ("SECRET_KEY", SECRET[:31]),
    ("SECRET_KEY", f"{SECRET},{NEXT_SECRET[:31]}"),
    ("SECRET_KEY", f"{SECRET[:16]},{SECRET[16:32]}"),
    ("SECRET_KEY", "s" * 64),
    ("SECRET_KEY", "123456789" * 3 + "9876543"),
    ("SECRET_KEY", "abcdefghijklmnop" * 2),
    ("SECRET_KEY", "abcdefghijk" * 3),
    ("SECRET_KEY", ("abcdefghijklmno" * 3)[:40]),
    ("SECRET_KEY", f"{SECRET[:20]}{SECRET[:20]}"),
    ("SECRET_KEY", f"{SECRET},{NEXT_SECRET[:16] * 2}"),
    ("SECRET_KEY", " " * 40),
    ("DATABASE_URL", "nonsense"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///bot.db"),
    ("DATABASE_URL", "sqlite+pysqlite:///bot.db"),
    ("DATABASE_URL", "sqlite+aiosqlite://"),
    ("DATABASE_URL", "sqlite+aiosqlite:///"),
    ("DATABASE_URL", "sqlite+aiosqlite:///:memory:"),
    ("DATABASE_URL", "postgresql+psycopg://user@host/name"),
    ("DATABASE_URL", "mysql://user@host/name"),
    ("DATABASE_URL", "mysql+aiomysql://user@host/name"),
    ("DATABASE_URL", "postgres://user@host:port/name"),
    ("DATABASE_URL", "/var/lib/bot.db"),
    ("PORT", "-1"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("PORT", "8080.5"),
    ("PORT", "9" * 5000),
    ("COUNTRY_CODE", "+999"),
    ("COUNTRY_CODE", "US"),
    ("COUNTRY_CODE", "++1"),
    ("COUNTRY_CODE", "-1"),
    ("COUNTRY_CODE", "+\u0661"),
    ("COUNTRY_CODE", "9" * 5000),
    ("TOKEN_LENGTH", "3"),
    ("TOKEN_LENGTH", "11"),
    ("TOKEN_LENGTH", "six"),
    ("TOKEN_ALPHABET", "letters"),
    ("TOKEN_TTL", "0"),
    ("TOKEN_TTL", "3601"),
    ("TOKEN_TTL", "10m"),
    ("TOKEN_ATTEMPTS", "0"),
    ("TOKEN_ATTEMPTS", "1000"),
    ("RESEND_COOLDOWN", "-1"),
    ("CODES_PER_HOUR", "0"),
    ("CODES_PER_DAY", "0"),
    ("ALLOW_WEAK_CODES", "perhaps"),
    ("APP_NAME", "x" * (MAX_APP_NAME_LENGTH + 1)),
    ("APP_NAME", "two\nlines"),
    ("APP_NAME", "\u201cquoted\u201d"),
    ("APP_NAME", "\U0001f600"),
    ("APP_NAME", "{code}"),
    ("TELNYX_API_KEY", " "),
    ("TELNYX_API_KEY", "KEY\u00e9"),
    ("TELNYX_API_KEY", "two words"),
    ("APP_NAME", "   "),
    ("APP_NAME", "100 \u20ac"),
    ("DATABASE_URL", "postgres://h:99999999/db"),
    ("DATABASE_URL", "postgres://h/db?sslmode=bogus"),
    ("DATABASE_URL", "sqlite+aiosqlite:///file:x?mode=memory&uri=true"),
    ("SECRET_KEY", "x" * 31 + "\udcff"),
    ("SUPPORT_CONTACT", "x" * (MAX_SUPPORT_CONTACT_LENGTH + 1)),
    ("SUPPORT_CONTACT", "two\nlines"),
    ("SUPPORT_CONTACT", "~me"),
    ("TERMS_URL", "example.com/terms"),
    ("TERMS_URL", "javascript:alert(1)"),
    ("TERMS_URL", "https:///terms"),
    ("TERMS_URL", "https://example.com:99999/"),
    ("PRIVACY_URL", "https://two words.example"),
    ("PRIVACY_URL", "https://user:password@example.com"),
    ("PRIVACY_URL", "https://[::1/"),
    ("SEND_RATE_ACCOUNT", "-1"),
    ("SEND_RATE_PER_NUMBER", "-1"),
    ("SEND_RATE_PER_NUMBER", "inf"),
    ("SEND_RATE_ACCOUNT", "nan"),
    ("SEND_RATE_ACCOUNT", "inf"),
    ("SEND_RATE_ACCOUNT", "fast"),
    ("EVENTS_SECRET", "whsec_not base64"),
    ("EVENTS_SECRET", "whsec_A"),
    ("EVENTS_SECRET", f"whsec_{base64_of(b'x' * 23)}"),
    ("EVENTS_SECRET", f"whsec_{base64_of(b'x' * 65)}"),
    ("LOG_LEVEL", "loud"),
    ("LOG_FORMAT", "xml"),
]


@pytest.mark.parametrize(
    ("variable", "value"), REFUSED, ids=[f"{name}={value[:40]!a}" for name, value in REFUSED]
)
def test_a_wrong_value_is_reported_with_the_name_of_its_variable(variable: str, value: str) -> None:
    (line,) = mistakes(NEEDED | {variable: value}).splitlines()
    assert line.startswith(f"{variable} is wrong; expected ")
    assert line.removeprefix(f"{variable} is wrong; expected ").strip()


@pytest.mark.parametrize("variable", NEEDED)
def test_a_missing_variable_is_reported_with_its_name(variable: str) -> None:
    given = {name: value for name, value in NEEDED.items() if name != variable}
    (line,) = mistakes(given).splitlines()
    assert line.startswith(f"{variable} is missing; expected ")


def test_all_mistakes_are_reported_together_and_each_once() -> None:
    wrong = {
        "TELNYX_PUBLIC_KEY": "x,y,z",
        "FROM_NUMBER": "1,2,3",
        "SECRET_KEY": "short,shorter",
        "DATABASE_URL": "mysql://host/name",
        "PORT": "none",
        "COUNTRY_CODE": "none",
        "TOKEN_ALPHABET": "none",
        "TOKEN_LENGTH": "none",
        "TOKEN_TTL": "none",
        "TOKEN_ATTEMPTS": "none",
        "RESEND_COOLDOWN": "none",
        "CODES_PER_HOUR": "none",
        "CODES_PER_DAY": "none",
        "ALLOW_WEAK_CODES": "none",
        "APP_NAME": "x" * 100,
        "SUPPORT_CONTACT": "x" * 100,
        "SEND_RATE_ACCOUNT": "none",
        "LOG_LEVEL": "none",
        "LOG_FORMAT": "none",
        "TELNYX_BASE_URL": "none",
    }
    message = mistakes(wrong)
    assert sorted(named_in(message)) == sorted([*wrong, "TELNYX_API_KEY"])
    assert "TELNYX_API_KEY is missing" in message


def test_no_value_is_quoted_in_the_error_or_its_traceback() -> None:
    wrong = {name: f"canary-{name}-\U0001f424" for name in VARIABLES}
    with mock.patch.dict(os.environ, wrong), pytest.raises(SettingsError) as found:
        Settings.read()

    written = "".join(traceback.format_exception(found.value))
    assert len(named_in(str(found.value))) > 15
    assert "canary" not in written


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    known = read(
        {
            "TELNYX_API_KEY": "canary-key",
            "SECRET_KEY": f"canary-{SECRET}",
            "DATABASE_URL": "postgres://user:canary-password@host/name",
        }
    )
    assert "canary" not in f"{known} {known!r}"


def test_an_empty_value_means_the_default() -> None:
    known = read({name: "" for name in VARIABLES if name not in NEEDED})
    assert known == read()


@pytest.mark.parametrize("variable", NEEDED)
def test_an_empty_value_of_a_required_variable_is_missing(variable: str) -> None:
    assert named_in(mistakes(NEEDED | {variable: ""})) == [variable]


def test_an_empty_environment_is_missing_the_four_required() -> None:
    assert sorted(named_in(mistakes({}))) == sorted(NEEDED)


def test_several_public_keys_are_accepted_while_one_replaces_another() -> None:
    both = f"{base64_of(PUBLIC_KEY)}, {base64_of(NEXT_PUBLIC_KEY)}"
    assert read({"TELNYX_PUBLIC_KEY": both}).telnyx_public_key == (PUBLIC_KEY, NEXT_PUBLIC_KEY)


def test_several_secret_keys_keep_their_order_since_the_first_signs() -> None:
    assert secrets_of(read({"SECRET_KEY": f"{NEXT_SECRET}, {SECRET},"})) == [NEXT_SECRET, SECRET]


def test_the_secrets_are_of_type_secretstr() -> None:
    known = read()
    assert isinstance(known.telnyx_api_key, SecretStr)
    assert all(isinstance(secret, SecretStr) for secret in known.secret_key)


@pytest.mark.parametrize("length", ["5", "10", "11", "64"])
def test_a_hexadecimal_code_may_be_long(length: str) -> None:
    known = read({"TOKEN_ALPHABET": "hex", "TOKEN_LENGTH": length})
    assert known.token_length == int(length)


@pytest.mark.parametrize("length", ["3", "65"])
def test_a_hexadecimal_code_has_limits_too(length: str) -> None:
    message = mistakes(NEEDED | {"TOKEN_ALPHABET": "hex", "TOKEN_LENGTH": length})
    assert named_in(message) == ["TOKEN_LENGTH"]


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ("postgres://user:pw@host:5433/name", "postgresql+asyncpg://user:pw@host:5433/name"),
        ("postgresql://user:pw@host/name", "postgresql+asyncpg://user:pw@host/name"),
        ("postgresql+asyncpg://user@host/name", "postgresql+asyncpg://user@host/name"),
        (
            "postgres://user:p%40ss%2Fword@host/name",
            "postgresql+asyncpg://user:p%40ss%2Fword@host/name",
        ),
        (
            "postgres://user@host/name?sslmode=require",
            "postgresql+asyncpg://user@host/name?ssl=require",
        ),
        (
            "postgres://user@host/name?pgbouncer=true",
            "postgresql+asyncpg://user@host/name?pgbouncer=true",
        ),
        (
            "postgresql+asyncpg://user@host/name?ssl=verify-full",
            "postgresql+asyncpg://user@host/name?ssl=verify-full",
        ),
        ("sqlite+aiosqlite:///bot.db", "sqlite+aiosqlite:///bot.db"),
        ("sqlite+aiosqlite:////var/lib/bot.db", "sqlite+aiosqlite:////var/lib/bot.db"),
    ],
)
def test_database_urls_are_accepted_as_hosts_write_them(written: str, understood: str) -> None:
    assert shown(read({"DATABASE_URL": written}).database_url) == understood


def test_database_settings_need_only_the_database() -> None:
    with mock.patch.dict(os.environ, {"DATABASE_URL": "postgres://user@host/name"}):
        known = DatabaseSettings.read()
    assert shown(known.database_url) == "postgresql+asyncpg://user@host/name"
    assert (known.country_code, known.log_level) == ("+1", "info")


def test_database_settings_report_a_wrong_database() -> None:
    message = mistakes({"DATABASE_URL": "mysql://host/name", "PORT": "none"}, DatabaseSettings)
    assert named_in(message) == ["DATABASE_URL"]


def test_an_env_file_in_the_folder_is_read(empty_folder: Path) -> None:
    lines = [f"{name}={value}" for name, value in NEEDED.items()]
    lines += ["# a remark", "", "APP_NAME='Caf\u00e9 Bot'", "UNKNOWN_VARIABLE=1", "PORT="]
    (empty_folder / ".env").write_text("\n".join(lines), encoding="utf-8")

    known = Settings.read()

    assert known.from_number == ("+13125550100",)
    assert (known.app_name, known.port) == ("Caf\u00e9 Bot", 8080)


def test_the_environment_goes_before_the_env_file(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("APP_NAME=File\nTOKEN_TTL=60\n", encoding="utf-8")
    known = read({"APP_NAME": "Environment"})
    assert (known.app_name, known.token_ttl) == ("Environment", 60)


def test_a_mistake_in_the_env_file_is_reported_like_any_other(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("PORT=canary\nSECRET_KEY=canary\n", encoding="utf-8")
    given = {name: value for name, value in NEEDED.items() if name != "SECRET_KEY"}
    message = mistakes(given)
    assert sorted(named_in(message)) == ["PORT", "SECRET_KEY"]
    assert "canary" not in message


def test_names_may_be_written_in_lower_case() -> None:
    with mock.patch.dict(os.environ, NEEDED | {"app_name": "Lower"}):
        assert Settings.read().app_name == "Lower"


def test_settings_do_not_change_once_they_are_read() -> None:
    known = read()
    change: Callable[[str, Any], None] = known.__setattr__
    with pytest.raises(ValueError, match="frozen"):
        change("port", 1)


beginnings = st.sampled_from(["sqlite+aiosqlite://", "postgres://", "https://", "+1", "hex"])
plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    st.integers().map(str),
    st.floats().map(str),
    st.builds("".join, st.tuples(beginnings, plain)),
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(VARIABLES), values, max_size=4))
def test_any_environment_is_read_or_reported(variables: dict[str, str]) -> None:
    try:
        read(variables)
    except SettingsError as error:
        named = named_in(str(error))
        goes_with_url = (
            {"EVENTS_SECRET", "EVENTS_TO_PRIVATE"} if "EVENTS_URL" in variables else set()
        )
        # A code is too short for its settings together; the length is what the report names.
        goes_with_limits = {"TOKEN_LENGTH"} if CODE_SETTINGS & variables.keys() else set()
        given_or_needed = {*variables, *goes_with_url, *goes_with_limits}
        report_is_about_these = bool(named) and set(named) <= given_or_needed
    else:
        report_is_about_these = True
    assert report_is_about_these


def test_an_api_key_is_stripped_of_white_space() -> None:
    assert read({"TELNYX_API_KEY": "KEY0123\n"}).telnyx_api_key.get_secret_value() == "KEY0123"


@pytest.mark.parametrize(("switch", "wrong"), [("off", ["EVENTS_TO_PRIVATE"]), ("on", [])])
def test_an_http_events_url_needs_events_to_private(switch: str, wrong: list[str]) -> None:
    given = NEEDED | {
        "EVENTS_URL": "http://127.0.0.1:8090/textproof",
        "EVENTS_SECRET": f"whsec_{base64_of(PUBLIC_KEY)}",
        "EVENTS_TO_PRIVATE": switch,
    }
    if wrong:
        assert named_in(mistakes(given)) == wrong
    else:
        assert read(given).events_to_private


def weak(**variables: str) -> str:
    """Return the only line of the report on settings whose codes are too short."""
    (line,) = mistakes(NEEDED | variables).splitlines()
    return line


def test_codes_that_are_too_short_are_a_mistake_with_the_figure_and_what_to_change() -> None:
    assert weak(TOKEN_LENGTH="4") == (
        "TOKEN_LENGTH is too short: CODES_PER_DAY x TOKEN_ATTEMPTS / possible codes is"
        " 5.0e-03 (1 in 200), and at most 1.0e-04 (1 in 10,000) is allowed; expected a length of at"
        " least 6, fewer codes or attempts, or ALLOW_WEAK_CODES=on to accept the risk"
    )


@pytest.mark.parametrize(
    ("variables", "allowed"),
    [
        ({"CODES_PER_DAY": "20"}, True),
        ({"CODES_PER_DAY": "21"}, False),
        ({"TOKEN_ATTEMPTS": "10"}, True),
        ({"TOKEN_ATTEMPTS": "10", "CODES_PER_DAY": "11"}, False),
        ({"TOKEN_LENGTH": "4", "TOKEN_ATTEMPTS": "1", "CODES_PER_DAY": "1"}, True),
        ({"TOKEN_LENGTH": "4", "TOKEN_ATTEMPTS": "1", "CODES_PER_DAY": "2"}, False),
        ({"TOKEN_ALPHABET": "hex", "TOKEN_LENGTH": "5"}, True),
        ({"TOKEN_ALPHABET": "hex", "TOKEN_LENGTH": "4"}, False),
        ({"TOKEN_LENGTH": "7", "TOKEN_ATTEMPTS": "10", "CODES_PER_DAY": "100"}, True),
    ],
)
def test_a_phone_is_verified_by_guessing_at_most_once_in_ten_thousand_days(
    variables: dict[str, str],
    allowed: bool,  # noqa: FBT001
) -> None:
    if allowed:
        assert read(variables).weakness is None
    else:
        assert named_in(weak(**variables)) == ["TOKEN_LENGTH"]


def test_weak_codes_can_be_allowed_and_are_known_by_their_figure() -> None:
    known = read({"TOKEN_LENGTH": "4", "ALLOW_WEAK_CODES": "on"})
    assert known.weakness == Fraction(50, 10_000)
    assert read({"ALLOW_WEAK_CODES": "on"}).weakness is None


def test_weak_codes_are_reported_together_with_the_other_mistakes() -> None:
    message = mistakes(NEEDED | {"TOKEN_LENGTH": "4", "PORT": "none", "SECRET_KEY": "s" * 64})
    assert sorted(named_in(message)) == ["PORT", "SECRET_KEY", "TOKEN_LENGTH"]


def test_a_test_number_with_a_fixed_code_is_outside_of_the_rule_on_weak_codes() -> None:
    assert read({"TEST_NUMBERS": "+15005550006=000000"}).weakness is None


def test_the_report_on_a_bad_secret_key_says_how_to_make_a_good_one() -> None:
    command = """python -c "import secrets; print(secrets.token_urlsafe(48))\""""
    assert command in mistakes(NEEDED | {"SECRET_KEY": "s" * 64})
    made = subprocess.run(
        [sys.executable, "-c", "import secrets; print(secrets.token_urlsafe(48))"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert secrets_of(read({"SECRET_KEY": made.strip()})) == [made.strip()]


def published() -> list[str]:
    """Return what looks like a key in the documentation: long, with digits, without punctuation."""
    root = Path(__file__).parents[1]
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("docs/examples/*")]
    pages += [*root.glob("bot/web/api/*.json"), *root.glob("bot/web/api/*.html")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    words = re.findall(r"(?<![A-Za-z0-9])[A-Za-z0-9+/=]{32,}", text)
    return [word for word in dict.fromkeys(words) if re.search(r"\d", word)]


def test_no_string_of_the_documentation_is_accepted_as_a_secret_key() -> None:
    command = "import secrets; print(secrets.token_urlsafe(48))"
    assert len(published()) > 2
    for key in (*published(), command, f'python -c "{command}"'):
        assert named_in(mistakes(NEEDED | {"SECRET_KEY": key})) == ["SECRET_KEY"], key
        assert named_in(mistakes(NEEDED | {"SECRET_KEY": f"{key}1"})) == ["SECRET_KEY"], key

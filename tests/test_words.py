"""Phrases that the code, the documentation and the messages must not contain.

CONTRIBUTING.md explains how we write. The list has phrases that are wrong everywhere, so that it
needs few exceptions: unusual English, metaphors for things that have a standard name, and names
that are no longer used.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "bot", "docs", "migrations", "tests")
SUFFIXES = {".css", ".html", ".js", ".json", ".lua", ".md", ".py", ".sh", ".story", ".toml"}

ODD_ENGLISH = (
    r"(?:is|are) to (?:be|answer|come|get|give|go|have|hold|know|lead|leave|reach|send|say|text)",
    r"(?:has|have) (?:it|them) (?:come|told)",
    r"(?:is|are|was|were|be|been) told",
    r"tells? (?:of|whether)",
    r"told as",
    r"works? no more",
    r"not \w+ any more",
    r"no \w+ any more",
    r"where there (?:is|are)",
    r"there (?:is|are) no more",
    r"that (?:does|do) not hold",
    r"whoever",
    r"somebody else",
    r"who asks",
    r"turns? out (?:otherwise|as)",
    r"keeps? house",
    r"nobody (?:asks|has asked|holds|knows)",
    r"what is over",
)
METAPHORS = (
    "acquaintance",
    "complaints?",
    "courier",
    "crowd",
    "front door",
    "rehears(?:al|e|ed)",
    "the house",
    "witness(?:es)?",
    "wish(?:es|ed)?",
)
OLD_NAMES = ("ledgers?", "web_ledgers?", "perceiv(?:e|es|ed)", "tests/harness")

BANNED = re.compile(rf"\b(?:{'|'.join((*ODD_ENGLISH, *METAPHORS, *OLD_NAMES))})\b", re.IGNORECASE)

# Migrations and their tests name the tables of earlier versions.
_OLD_TABLES = {"ledger", "ledgers", "web_ledgers"}
ALLOWED = {
    "migrations/versions": _OLD_TABLES,
    "tests/store/engine/test_migrate.py": _OLD_TABLES,
}
TELNYX_HELP = "Help: ask whoever gave you this number."
"""The simulated autoresponse of Telnyx: a text to people, not ours to change."""
NOT_CHECKED = {"CONTRIBUTING.md", "tests/test_words.py"}
"""These quote the phrases."""


def files() -> list[Path]:
    """Return the files to check, relative to the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("*.py"), *ROOT.glob("*.toml")]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    names = sorted(path.relative_to(ROOT) for path in found)
    return [name for name in names if name.as_posix() not in NOT_CHECKED]


def allowed(file: Path) -> set[str]:
    """Return the phrases that a file may contain."""
    return {
        phrase
        for path, phrases in ALLOWED.items()
        if file.is_relative_to(path)
        for phrase in phrases
    }


def test_no_file_contains_a_banned_phrase() -> None:
    found = [
        f"{file}:{number}: {match[0]}"
        for file in files()
        for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1)
        for match in BANNED.finditer(line.replace(TELNYX_HELP, ""))
        if match[0].lower() not in allowed(file)
    ]
    assert not found, "\n".join(found)

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bot.conversation.transitions import Action, Event
from bot.settings import Settings
from tests.proof.mutations import MUTATIONS

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
SETTING = re.compile(r"^\| `([A-Z_]+)` \| (.+?) \|", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
PATH = re.compile(r"`((?:benchmarks|bot|docs|migrations|tests)/[\w./-]*)`")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def script(name: str) -> ModuleType:
    """Import a script of the docs folder."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_states_matches_the_transition_table() -> None:
    states = script("write_states")
    page = states.PAGE.read_text(encoding="utf-8")
    assert page == states.page(), "python docs/write_states.py"


def test_the_page_of_the_states_names_every_event_and_action() -> None:
    page = script("write_states").page()
    assert all(event in page for event in [*Event, *Action])


def test_the_list_of_faults_that_the_checks_find_is_complete() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    section = page.partition("## Faults that the checks find")[2].partition("\n\nIn the crash")[0]
    listed = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:]
    assert listed == [mutation.fault for mutation in MUTATIONS]


def test_the_architecture_picture_matches_the_imports() -> None:
    drawing = script("draw_architecture")
    picture = drawing.draw(drawing.layers(), drawing.imports())
    assert drawing.PICTURE.read_text(encoding="utf-8") == picture, (
        "python docs/draw_architecture.py"
    )


def test_the_conversation_picture_matches_the_demos_first_story() -> None:
    drawing = script("draw_conversation")
    picture = drawing.draw(drawing.STORY.read_text(encoding="utf-8"))
    assert drawing.PICTURE.read_text(encoding="utf-8") == picture, (
        "python docs/draw_conversation.py"
    )


def documented_default(field: FieldInfo) -> str:
    """Format a default as docs/configuration.md does."""
    default = field.get_default(call_default_factory=True, validated_data={})
    if default in ("", (), {}):
        return "none"
    if isinstance(default, bool):
        return "`on`" if default else "`off`"
    return f"`{default}`"


def test_the_configuration_page_lists_every_setting_with_its_default() -> None:
    documented = dict(SETTING.findall((DOCS / "configuration.md").read_text(encoding="utf-8")))
    actual = {
        name.upper(): "required" if field.is_required() else documented_default(field)
        for name, field in Settings.model_fields.items()
    }
    assert documented == actual


def test_the_readme_shows_the_commands_of_the_procfile() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines():
        assert f"    {line}\n" in readme


def test_every_test_named_on_the_reliability_page_exists() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []
    files = re.findall(r"`(?:tests/)?(test_\w+\.py)`", page)
    assert [file for file in files if not list(ROOT.glob(f"tests/**/{file}"))] == []


def test_the_api_guide_shows_its_examples_unchanged() -> None:
    guide = (DOCS / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```(?:sh|python)\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert shown == [
        (DOCS / "examples" / name).read_text(encoding="utf-8")
        for name in ("verify.sh", "verify.py", "text_in.py")
    ]


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    dead = []
    for page in PAGES:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            if not target.is_file() or (heading and heading not in anchors(target)):
                dead.append(f"{page.name}: {link}")
    assert dead == []


def test_every_path_named_on_a_page_exists() -> None:
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in PATH.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    ]
    assert missing == []


def test_the_documentation_index_lists_every_page() -> None:
    index = DOCS / "README.md"
    linked = {DOCS / link for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert set(DOCS.rglob("*.md")) - {index} - linked == set()


def test_the_readmes_architecture_lists_every_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    architecture = readme.partition("## Architecture\n")[2]
    packages = {path.parent.name for path in ROOT.glob("bot/*/__init__.py")}
    assert packages
    assert {name for name in packages if f"    bot/{name}/ " not in architecture} == set()

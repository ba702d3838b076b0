from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bot.conversation.diagram import mermaid
from bot.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+?) \|", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Name the headings as links do."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_the_page_of_the_conversation_shows_the_table_of_moves_as_it_is() -> None:
    page = (DOCS / "conversation.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{mermaid()}\n```" in page, "python -m bot.conversation.diagram"


def as_written(field: FieldInfo) -> str:
    """Write a default as the environment has it."""
    default = field.get_default(call_default_factory=True, validated_data={})
    if default in ("", (), {}):
        return "none"
    if isinstance(default, bool):
        return "`on`" if default else "`off`"
    return f"`{default}`"


def test_the_page_of_the_configuration_names_every_setting_with_its_default() -> None:
    documented = dict(ROW.findall((DOCS / "configuration.md").read_text(encoding="utf-8")))
    actual = {
        name.upper(): "required" if field.is_required() else as_written(field)
        for name, field in Settings.model_fields.items()
    }
    assert documented == actual


def test_the_picture_shows_the_story_that_the_demo_plays() -> None:
    script = DOCS / "draw_conversation.py"
    spec = importlib.util.spec_from_file_location("draw_conversation", script)
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    story = drawing.STORY.read_text(encoding="utf-8")
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawing.draw(story)


def test_the_readme_shows_the_commands_of_the_procfile() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines():
        assert f"    {line}\n" in readme


def test_every_test_that_the_proof_is_said_to_rest_on_is_there() -> None:
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []
    files = re.findall(r"`(?:tests/)?(test_\w+\.py)`", page)
    assert [file for file in files if not list(ROOT.glob(f"tests/**/{file}"))] == []


def test_the_guide_to_the_api_shows_its_examples_as_they_are() -> None:
    guide = (DOCS / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```(?:sh|python)\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert shown == [
        (DOCS / "examples" / name).read_text(encoding="utf-8")
        for name in ("verify.sh", "verify.py", "text_in.py")
    ]


def test_every_link_of_a_page_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *DOCS.glob("*.md")]
    dead = []
    for page in pages:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path, _, heading = link.partition("#")
            leads_to = page.parent / path if path else page
            if not leads_to.is_file() or (heading and heading not in anchors(leads_to)):
                dead.append(f"{page.name}: {link}")
    assert dead == []


def test_the_house_names_every_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    house = readme.partition("## The house\n")[2]
    packages = {path.parent.name for path in ROOT.glob("bot/*/__init__.py")}
    assert packages
    assert {name for name in packages if f"    bot/{name}/ " not in house} == set()

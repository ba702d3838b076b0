from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from bot.conversation.diagram import mermaid
from bot.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+?) \|", re.MULTILINE)


def test_the_readme_shows_the_table_of_moves_as_it_is() -> None:
    assert f"```mermaid\n{mermaid()}\n```" in README, "python -m bot.conversation.diagram"


def written(default: object) -> str:
    """Write a default as the README has it."""
    if isinstance(default, bool):
        return f"`{'on' if default else 'off'}`"
    return f"`{default}`" if default or default == 0 else "none"


def test_the_readme_names_every_setting_with_its_default() -> None:
    section = README.partition("## Configuration\n")[2].partition("\n## ")[0]
    documented = dict(ROW.findall(section))
    actual = {
        name.upper(): "required"
        if field.is_required()
        else written(field.get_default(call_default_factory=True))
        for name, field in Settings.model_fields.items()
    }
    assert documented == actual


def test_the_picture_shows_the_story_that_the_demo_plays() -> None:
    script = ROOT / "docs" / "draw_conversation.py"
    spec = importlib.util.spec_from_file_location("draw_conversation", script)
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    story = drawing.STORY.read_text(encoding="utf-8")
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawing.draw(story)


def test_the_readme_shows_the_commands_of_the_procfile() -> None:
    for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines():
        assert f"    {line}\n" in README


def test_every_test_that_the_proof_is_said_to_rest_on_is_there() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []
    files = re.findall(r"`(?:tests/)?(test_\w+\.py)`", page)
    assert [file for file in files if not list(ROOT.glob(f"tests/**/{file}"))] == []

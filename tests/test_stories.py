from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bot.simulator.story import Player

if TYPE_CHECKING:
    from conftest import SetStage

STORIES = sorted((Path(__file__).parent / "stories").glob("*.story"))
_WITH = "# with "


def settings_of(script: str) -> dict[str, Any]:
    """Read the settings a story is played with: `# with TOKEN_ATTEMPTS=3`."""
    lines = [line.removeprefix(_WITH) for line in script.splitlines() if line.startswith(_WITH)]
    pairs = [line.strip().split("=", 1) for line in lines]
    return {name.lower(): value for name, value in pairs}


@pytest.mark.parametrize("file", STORIES, ids=lambda file: file.stem)
async def test_the_story_turns_out_as_written(file: Path, set_stage: SetStage) -> None:
    script = file.read_text(encoding="utf-8")
    stage = await set_stage(**settings_of(script))
    await Player(stage).play(script)

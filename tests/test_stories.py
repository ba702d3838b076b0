from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.simulator.clock import StoppedClock
from bot.simulator.story import Player, beginning_of, settings_of

if TYPE_CHECKING:
    from conftest import SetStage

STORIES = sorted((Path(__file__).parent / "stories").glob("*.story"))


@pytest.mark.parametrize("file", STORIES, ids=lambda file: file.stem)
async def test_the_story_turns_out_as_written(file: Path, set_stage: SetStage) -> None:
    script = file.read_text(encoding="utf-8")
    clock = StoppedClock(beginning_of(script))
    stage = await set_stage(clock=clock, **settings_of(script))
    await Player(stage).play(script)

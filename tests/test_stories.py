from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bot.simulator.clock import StoppedClock
from bot.simulator.stories.player import Player, settings_of, start_time_of

if TYPE_CHECKING:
    from tests.conftest import MakeSandbox

STORIES = sorted((Path(__file__).parent / "stories").glob("*.story"))


@pytest.mark.parametrize("file", STORIES, ids=lambda file: file.stem)
async def test_the_story_goes_as_written(file: Path, make_sandbox: MakeSandbox) -> None:
    script = file.read_text(encoding="utf-8")
    clock = StoppedClock(start_time_of(script))
    sandbox = await make_sandbox(clock=clock, **settings_of(script))
    await Player(sandbox).play(script)

"""Draw docs/conversation.svg from the story that `bot demo --once` plays.

Run this script after that story has changed: python docs/draw_conversation.py
"""

from __future__ import annotations

import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
STORY = ROOT / "bot" / "simulator" / "stories" / "first.story"
PICTURE = ROOT / "docs" / "conversation.svg"

CODE = "482913"
WIDTH, MARGIN, PADDING, LINE, GAP = 460, 20, 12, 20, 14
CHARACTERS, CHARACTER = 36, 9.2

STYLE = """\
    text { font: 15px system-ui, sans-serif; }
    .screen { fill: #f6f7f9; stroke: #d5d9e0; }
    .person { fill: #1769e0; } .person + g text { fill: #ffffff; }
    .bot { fill: #e3e7ee; } .bot + g text { fill: #14171c; }
    @media (prefers-color-scheme: dark) {
      .screen { fill: #14171c; stroke: #39404b; }
      .bot { fill: #2b313b; } .bot + g text { fill: #eef1f5; }
    }"""


def draw(story: str) -> str:
    """Draw the texts of a story as speech bubbles: the person's right, the bot's left."""
    texts = [line.split(" ", 1) for line in story.splitlines() if line[:2] in ("> ", "< ")]
    bubbles, top = [], MARGIN
    for mark, text in texts:
        bubble, height = _bubble(text.replace("{code}", CODE), top, by_person=mark == ">")
        bubbles.append(bubble)
        top += height + GAP
    height = top - GAP + MARGIN
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img"'
        ' aria-label="A person texts VERIFY, gets a code, replies with it and is verified">'
    )
    frame = f'x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="18"'
    screen = f'  <rect class="screen" {frame}/>'
    return "\n".join([opening, f"  <style>\n{STYLE}\n  </style>", screen, *bubbles, "</svg>\n"])


def _bubble(text: str, top: int, *, by_person: bool) -> tuple[str, int]:
    lines = textwrap.wrap(text, CHARACTERS)
    width = round(max(map(len, lines)) * CHARACTER) + 2 * PADDING
    height = len(lines) * LINE + 2 * PADDING - 4
    left = WIDTH - MARGIN - width if by_person else MARGIN
    rows = "".join(
        f'<text x="{left + PADDING}" y="{top + PADDING + 13 + row * LINE}">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )
    side = "person" if by_person else "bot"
    shape = f'<rect class="{side}" x="{left}" y="{top}" width="{width}" height="{height}" rx="14"/>'
    return f"  {shape}<g>{rows}</g>", height


if __name__ == "__main__":
    PICTURE.write_text(draw(STORY.read_text(encoding="utf-8")), encoding="utf-8")

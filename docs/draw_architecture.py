"""Draw docs/architecture.svg: the packages of bot/ in layers, with the imports between them.

The layers are those of the import-linter contract in pyproject.toml, and the arrows are read from
the source. Run this script after an import between packages was added or removed:
python docs/draw_architecture.py
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

BOX_WIDTH, BOX_HEIGHT, COLUMN, ROW, MARGIN = 150, 40, 220, 110, 20

STYLE = """\
    text { font: 15px system-ui, sans-serif; text-anchor: middle; fill: #14171c; }
    rect { fill: #e3e7ee; stroke: #8a93a3; }
    line { stroke: #8a93a3; stroke-width: 1.2; marker-end: url(#arrow); }
    marker path { fill: #8a93a3; }
    @media (prefers-color-scheme: dark) {
      text { fill: #eef1f5; } rect { fill: #2b313b; }
    }"""


def layers() -> list[list[str]]:
    """Return the packages of each layer, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = (contract for contract in contracts if contract["type"] == "layers")
    rows = [
        list(dict.fromkeys(map(_package, re.split(" [|:] ", layer))))
        for layer in contract["layers"]
    ]
    return [row for row, above in zip(rows, [[], *rows], strict=False) if row != above]


def imports() -> set[tuple[str, str]]:
    """Return the pairs of packages of which the first imports the second."""
    found = set()
    for file in sorted((ROOT / "bot").rglob("*.py")):
        importer = _package(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found |= {(importer, _package(name)) for name in _imported(node)}
    return {(importer, imported) for importer, imported in found if imported not in ("", importer)}


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "bot":
        return [f"bot.{alias.name}" for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def _package(module: str) -> str:
    """Return the part of `bot` that a module belongs to, "" for `bot` itself and other projects."""
    root, _, rest = module.partition(".")
    name = rest.partition(".")[0] if root == "bot" else ""
    return {"__main__": "cli", "__init__": "", "__version__": ""}.get(name, name)


def draw(rows: list[list[str]], arrows: set[tuple[str, str]]) -> str:
    """Draw the layers as rows of boxes, and an arrow from each importer to what it imports.

    An import that a chain of other imports implies has no arrow of its own, and neither have
    modules that stand outside of the layers.
    """
    width = max(map(len, rows)) * COLUMN - COLUMN + BOX_WIDTH + 2 * MARGIN
    height = len(rows) * ROW - ROW + BOX_HEIGHT + 2 * MARGIN
    place = {
        name: (width / 2 + (column - (len(row) - 1) / 2) * COLUMN, MARGIN + depth * ROW)
        for depth, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    known = {(a, b) for a, b in arrows if a in place and b in place}
    direct = {(a, b) for a, b in known if not _implied(a, b, known)}
    lines = [
        f'  <line x1="{place[a][0]:g}" y1="{place[a][1] + BOX_HEIGHT:g}"'
        f' x2="{place[b][0]:g}" y2="{place[b][1] - 6:g}"/>'
        for a, b in sorted(direct)
    ]
    boxes = [
        f'  <rect x="{x - BOX_WIDTH / 2:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"'
        f' rx="8"/><text x="{x:g}" y="{y + 25:g}">{name}</text>'
        for name, (x, y) in place.items()
    ]
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img"'
        ' aria-label="The packages of bot in layers; each imports only from layers below it">'
    )
    arrow = (
        '  <marker id="arrow" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>'
    )
    return "\n".join(
        [opening, f"  <style>\n{STYLE}\n  </style>", arrow, *lines, *boxes, "</svg>\n"]
    )


def _implied(importer: str, imported: str, arrows: set[tuple[str, str]]) -> bool:
    """Return whether other imports lead from one package to the other too."""
    reached: set[str] = set()
    waiting = [b for a, b in arrows if a == importer and b != imported]
    while waiting:
        package = waiting.pop()
        if package not in reached:
            reached.add(package)
            waiting += [b for a, b in arrows if a == package]
    return imported in reached


if __name__ == "__main__":
    PICTURE.write_text(draw(layers(), imports()), encoding="utf-8")

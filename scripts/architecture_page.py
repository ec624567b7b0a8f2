"""Draw docs/architecture.svg, and write the table of rooms in docs/architecture.md, from the imports of the code.

Usage: python scripts/architecture_page.py
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE, DOCS = ROOT / "src" / "assay", ROOT / "docs"
BEGIN, END = "<!-- rooms: written by scripts/architecture_page.py -->", "<!-- end of rooms -->"
WIDTH, BOX, HIGH, GAP, MARGIN = 860, 128, 34, 30, 20

Graph = dict[str, set[str]]


def room_of(module: str) -> str | None:
    """Return the room of a module: the part of its name behind `assay`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "assay" and len(parts) > 1 else None


def rooms() -> dict[str, str]:
    """Return what every room is for, the first sentence of its docstring, by name."""
    found = {}
    for path in sorted(SOURCE.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.is_file() and path.name not in ("__init__.py", "_deprecated.py"):
            told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            found[path.stem] = " ".join(told.split("\n\n")[0].split())
    return found


def imports() -> Graph:
    """Return which rooms each room imports, at the top of a file or inside a function."""
    known, graph = rooms(), defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if here not in known:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "assay":
                names = [f"assay.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            graph[here] |= {room for name in names if (room := room_of(name)) in known and room != here}
    return {room: graph[room] for room in known}


def floors(graph: Graph) -> dict[str, int]:
    """Return the floor of every room: the ground is 0, and a room stands above everything that it imports."""
    found: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((floor(one) for one in graph[room]), default=-1)
        return found[room]

    for room in graph:
        floor(room)
    return found


def needed(graph: Graph) -> Graph:
    """Return the imports without those that follow from others: if a imports b and b imports c, a to c goes."""

    def below(room: str) -> set[str]:
        return {deep for one in graph[room] for deep in {one, *below(one)}}

    return {room: there - {deep for one in there for deep in below(one)} for room, there in graph.items()}


def drawing(graph: Graph) -> str:
    """Return the drawing as SVG: a row of rooms per floor, and an arrow to what each room rests on."""
    level = floors(graph)
    rows = [sorted(room for room in graph if level[room] == one) for one in range(max(level.values()), -1, -1)]
    at = {}
    for row, names in enumerate(rows):
        step = (WIDTH - 2 * MARGIN) / len(names)
        for column, name in enumerate(names):
            at[name] = (MARGIN + step * (column + 0.5), MARGIN + row * (HIGH + GAP))
    height = MARGIN * 2 + len(rows) * (HIGH + GAP) - GAP
    lines = []
    for room, there in sorted(needed(graph).items()):
        for one in sorted(there):
            (x, y), (u, v) = at[room], at[one]
            bend = f"M{x:.0f} {y + HIGH:.0f} C{x:.0f} {y + HIGH + GAP:.0f} {u:.0f} {v - GAP:.0f} {u:.0f} {v - 3:.0f}"
            lines.append(f'<path d="{bend}" fill="none" stroke="#8a97a3" marker-end="url(#arrow)"/>')
    for room, (x, y) in at.items():
        lines.append(
            f'<rect x="{x - BOX / 2:.0f}" y="{y:.0f}" width="{BOX}" height="{HIGH}" rx="6" fill="#e6f2f1" '
            f'stroke="#2a7f78"/><text x="{x:.0f}" y="{y + 22:.0f}" text-anchor="middle">{escape(room)}</text>'
        )
    arrow = '<marker id="arrow" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
            f'height="{height:.0f}" font-family="sans-serif" font-size="14" fill="#10312e">',
            "<title>The rooms of Assay: each rests on those that its arrows lead to, and on all below them</title>",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            f'<defs>{arrow}<path d="M0 0 L8 4 L0 8 z" fill="#8a97a3"/></marker></defs>',
            *lines,
            "</svg>",
            "",
        ]
    )


def table(graph: Graph) -> str:
    """Return the table of rooms, the ground first."""
    told, level = rooms(), floors(graph)
    head = ["| floor | room | what it is for | rests on |", "|---|---|---|---|"]
    lines = [
        f"| {level[room]} | `{room}` | {told[room]} | {', '.join(f'`{one}`' for one in sorted(needed(graph)[room]))} |"
        for room in sorted(graph, key=lambda one: (level[one], one))
    ]
    return "\n".join([*head, *lines])


def page(text: str) -> str:
    """Return the page with its table written anew."""
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not found.search(text):
        raise SystemExit(f"docs/architecture.md has no lines {BEGIN} and {END}: the table stands between them.")
    return found.sub(lambda _: f"{BEGIN}\n\n{table(imports())}\n\n{END}", text)


def files() -> dict[Path, str]:
    """Return what is written, by path."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    return {DOCS / "architecture.svg": drawing(imports()), DOCS / "architecture.md": page(text)}


def main() -> None:
    """Write the drawing and the table."""
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()

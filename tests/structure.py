"""Print the size and the import structure of each package, as `grimp` reads it from the sources.

    python -m tests.structure [ROOT]

A room is a module or subpackage directly inside a package; an arrow joins two rooms of which one imports the other;
floors are the lengths of the longest chains of arrows; an upward arrow is part of an import cycle between rooms.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import grimp
import networkx

PACKAGES = ("corpus", "pipeline", "model", "trainer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Size and import structure of one package."""

    package: str
    files: int
    lines: int
    rooms: int
    arrows: int
    floors: int
    upward: int
    """Arrows that close an import cycle: the fewest found whose removal leaves none."""


def structures(root: Path) -> list[Structure]:
    """Measure the four packages of a checkout."""
    sys.path.insert(0, str(root))
    try:
        graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    finally:
        sys.path.remove(str(root))
    imports = [(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)]
    found = []
    for package in PACKAGES:
        files = sorted((root / package).rglob("*.py"))
        rooms = _between_rooms(package, imports)
        for room in graph.find_children(package):
            rooms.add_node(room)
        upward = _cycle_closers(rooms)
        acyclic = networkx.DiGraph(edge for edge in rooms.edges if edge not in upward)
        found.append(
            Structure(
                package=package,
                files=len(files),
                lines=sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files),
                rooms=rooms.number_of_nodes(),
                arrows=rooms.number_of_edges(),
                floors=networkx.dag_longest_path_length(acyclic) + 1,
                upward=len(upward),
            )
        )
    return found


def _between_rooms(package: str, imports: Iterable[tuple[str, str]]) -> networkx.DiGraph:
    def room(module: str) -> str | None:
        parts = module.split(".")
        return ".".join(parts[:2]) if parts[0] == package and len(parts) > 1 else None

    graph = networkx.DiGraph()
    for importer, imported in imports:
        begin, end = room(importer), room(imported)
        if begin is not None and end is not None and begin != end:
            graph.add_edge(begin, end)
    return graph


def _cycle_closers(rooms: networkx.DiGraph) -> set[tuple[str, str]]:
    graph, closers = rooms.copy(), set()
    while not networkx.is_directed_acyclic_graph(graph):
        cycle = [begin for begin, _ in networkx.find_cycle(graph)]
        edges = list(pairwise([*cycle, cycle[0]]))
        # The arrow whose end has the most arrows of its own is the one that points up.
        worst = max(edges, key=lambda edge: (graph.out_degree(edge[1]) - graph.out_degree(edge[0]), edge))
        graph.remove_edge(*worst)
        closers.add(worst)
    return closers


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.structure", description=__doc__.partition("\n")[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[1], help="a checkout")
    found = structures(parser.parse_args(arguments).root.resolve())
    columns = ("files", "lines", "rooms", "arrows", "floors", "upward")
    print(f"{'package':<10}" + "".join(f"{column:>8}" for column in columns))
    for item in found:
        print(f"{item.package:<10}" + "".join(f"{getattr(item, column):>8,}" for column in columns))
    print(f"{'all':<10}" + "".join(f"{sum(getattr(item, column) for item in found):>8,}" for column in columns[:2]))


if __name__ == "__main__":
    main()

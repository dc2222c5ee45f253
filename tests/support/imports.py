"""Import graph of the product: `python -m tests.support.imports` prints modules, arrows and circles per folder."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from tests.support.repo import find_file, get_name, list_code, list_imports

Graph = Mapping[str, set[str]]


def build_module_graph() -> dict[str, set[str]]:
    """Return, for each module of the product, the modules that it imports."""
    return {
        get_name(path): {
            get_name(file) for module in list_imports(path) if (file := find_file(module)) and file != path
        }
        for path in list_code()
    }


def get_room(module: str) -> str:
    """Return the folder of a module."""
    return module.rpartition("/")[0]


def build_room_graph(modules: Graph) -> dict[str, set[str]]:
    """Return, for each folder, the folders that it imports from, without its parent and child folders."""
    rooms: dict[str, set[str]] = {}
    for module, imported in modules.items():
        room = get_room(module)
        imported_rooms = {get_room(name) for name in imported}
        apart = {
            folder
            for folder in imported_rooms
            if not f"{room}/".startswith(f"{folder}/") and not folder.startswith(f"{room}/")
        }
        rooms.setdefault(room, set()).update(apart)
    return rooms


def find_circle(graph: Graph) -> list[str]:
    """Return one circle of imports, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    """Print modules, arrows and a circle for each top-level folder, then for the graph of all folders."""
    modules = build_module_graph()
    for folder in sorted({name.split("/")[0] for name in modules}):
        inside = {
            name: {to for to in modules[name] if to.split("/")[0] == folder}
            for name in modules
            if name.split("/")[0] == folder
        }
        _print_graph(folder, inside)
    _print_graph("rooms", build_room_graph(modules))


def _print_graph(name: str, graph: Graph) -> None:
    circle = " -> ".join(find_circle(graph)) or "none"
    print(f"{name:<16}{len(graph):>4} nodes{sum(map(len, graph.values())):>5} arrows  circle: {circle}")


if __name__ == "__main__":
    main()

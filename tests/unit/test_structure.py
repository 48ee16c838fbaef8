"""Who uses whom in the source: no two packages and no two modules use each other, and each room only those below."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pgferry

PACKAGE = Path(pgferry.__file__).parent
ENGINE = "pgferry.engine"

# The engine's rooms, and which of them each may use beside itself (docs/architecture.md).
CORE = {"io", "wire", "shared", "core"}
ROOMS: dict[str, set[str]] = {
    "io": set(),
    "wire": {"io"},
    "shared": {"io"},
    "core": {"io", "wire", "shared"},
    "session": CORE,
    "server": {*CORE, "session"},
    "client": {*CORE, "session"},
    "pool": {*CORE, "session", "server", "client"},
    "services": {*CORE, "session", "server", "client", "pool"},
    "ops": {*CORE, "session", "server", "client", "pool", "services"},
}
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
STILL_TOO_LONG = {"pgferry.engine.io.stream.unload"}
MOST_FIELDS = 30

COMMENT = re.compile(r"#[^\n]*")
CYTHON_FROM = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n]*)", re.MULTILINE)
CYTHON_IMPORT = re.compile(r"^[ \t]*c?import[ \t]+([\w.]+(?:[ \t]*,[ \t]*[\w.]+)*)", re.MULTILINE)
CYTHON_FUNCTION = re.compile(
    # Its first line, which is no variable's or class's; then what is indented.
    r"^(?P<indent>[ \t]*)c?p?def[ \t]+(?!class\b)(?:[^\n=(]*[ \t*])?(?P<name>\w+)\([^\n]*\n"
    r"(?:(?P=indent)[ \t]+\S[^\n]*\n|[ \t]*\n(?=(?:[ \t]*\n)*(?P=indent)[ \t]+\S))*",
    re.MULTILINE,
)


def name_of(path: Path) -> str:
    """The module that a file is, or is the declaration of."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, list[Path]]:
    """The files of every module: x.py alone, or x.pyx and x.pxd."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in {".py", ".pyx", ".pxd"}:
            found.setdefault(name_of(path), []).append(path)
    return found


def imported_by_python(text: str) -> Iterator[tuple[str, list[str]]]:
    """The modules named in imports, those for the type checker included; each with the names taken from it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [alias.name for alias in node.names]


def imported_by_cython(text: str) -> Iterator[tuple[str, list[str]]]:
    """The same of a compiled module or its declaration, where cimport counts as import."""
    text = COMMENT.sub("", text)
    for found in CYTHON_FROM.finditer(text):
        yield found[1], [part.split()[0] for part in found[2].strip("() \n").split(",") if part.strip()]
    for found in CYTHON_IMPORT.finditer(text):
        yield from ((name.strip(), []) for name in found[1].split(","))


def absolute(name: str, package: str) -> str:
    """A module's name in full: ..b in the package a.c is a.b."""
    rest = name.lstrip(".")
    level = len(name) - len(rest)
    if not level:
        return name
    base = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*base, rest] if rest else base)


def module_graph() -> dict[str, set[str]]:
    """For every module the modules of this project that it imports."""
    modules = sources()
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, paths in modules.items():
        for path in paths:
            package = name if path.stem == "__init__" else name.rpartition(".")[0]
            imports = imported_by_python if path.suffix == ".py" else imported_by_cython
            for base, taken in imports(path.read_text()):
                source = absolute(base, package)
                submodules = {f"{source}.{one}" for one in taken} & modules.keys()
                graph[name] |= submodules - {name}
                if source in modules and source != name and (not taken or len(submodules) < len(taken)):
                    graph[name].add(source)
    return graph


def package_of(module: str) -> str:
    """The directory below pgferry in which a module stands. Those of the engine count one by one."""
    return module if module.startswith(ENGINE) else ".".join(module.split(".")[:2])


def package_graph(modules: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """For every package the packages that its modules import."""
    graph: dict[str, set[str]] = {}
    for name, used in modules.items():
        package = package_of(name)
        graph.setdefault(package, set()).update({package_of(one) for one in used} - {package})
    return graph


def reachable(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """Everything that is used from here, directly or not."""
    seen: set[str] = set()
    pending = list(graph[start])
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending += graph[name]
    return seen


def cycles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The groups of names that all use each other, the largest first."""
    below = {name: reachable(graph, name) for name in graph}
    groups = {
        frozenset(other for other in below[name] if name in below[other])
        for name in graph
        if name in below[name]
    }
    return sorted((sorted(group) for group in groups), key=len, reverse=True)


def room_of(module: str) -> str | None:
    """The room of an engine's module."""
    parts = module.removeprefix(ENGINE + ".").split(".")
    return parts[0] if module.startswith(ENGINE + ".") and len(parts) > 1 else None


def test_packages_do_not_use_each_other() -> None:
    assert cycles(package_graph(module_graph())) == []


def test_modules_do_not_use_each_other() -> None:
    assert cycles(module_graph()) == []


def test_rooms_use_only_those_below() -> None:
    wrong = []
    for module, used in module_graph().items():
        room = room_of(module)
        if room is not None:
            allowed = {room, *ROOMS[room]}
            wrong += [f"{module} uses {one}" for one in used if (room_of(one) or room) not in allowed]
    assert wrong == []


def test_files_are_not_too_long() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".pyx", ".pxd", ".js"}]
    assert [path.name for path in files if path.read_text().count("\n") > LONGEST_FILE] == []


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    """The functions and methods of a module, each with its number of lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


def cython_functions(text: str) -> Iterator[tuple[str, int]]:
    """The same of a compiled module, where a function is its first line and what is indented behind it."""
    for found in CYTHON_FUNCTION.finditer(text):
        yield found["name"], found[0].count("\n")


def test_functions_are_not_too_long() -> None:
    long = []
    for module, paths in sources().items():
        for path in paths:
            functions = python_functions if path.suffix == ".py" else cython_functions
            found = functions(path.read_text())
            long += [f"{module}.{name}" for name, lines in found if lines > LONGEST_FUNCTION]
    assert set(long) <= STILL_TOO_LONG


def test_functions_are_found() -> None:
    python = "class C:\n    @a\n    def f(self):\n        def g(): ...\n\n        return 1\n\n\nx = 1\n"
    assert dict(python_functions(python)) == {"f": 4, "g": 1}
    cython = (
        "cdef int a(Client c,\n           int n) except -1:\n    cdef int x = b(n)\n\n    return x\n\n\n"
        "cdef class C(Base):\n    cdef int n\n\n    cdef const char *b(self) noexcept:\n        pass\n\n"
        "    def c(self):\n        pass\n\n\ncpdef d():\n    # a\n\n    pass\nx = d()\n"
    )
    assert list(cython_functions(cython)) == [("a", 5), ("b", 2), ("c", 2), ("d", 4)]


def test_classes_have_few_fields() -> None:
    found = re.compile(r"^cdef class (\w+)[^\n]*:\n((?:    [^\n]*\n|\n)*)", re.MULTILINE)
    for path in PACKAGE.rglob("*.pxd"):
        for name, body in found.findall(COMMENT.sub("", path.read_text())):
            lines = [line for line in body.split("\n") if re.match(r"    cdef ", line) and "(" not in line]
            assert sum(1 + line.count(",") for line in lines) <= MOST_FIELDS, name


def test_imports_are_found() -> None:
    graph = module_graph()
    assert "pgferry.protocol.errors" in graph["pgferry.protocol.reader"]
    assert "pgferry.session.lexer" in graph["pgferry.session.classify"]
    assert "pgferry.engine.core.plan" in graph["pgferry.engine.core.model"]
    assert absolute("..b", "a.c") == "a.b"
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]

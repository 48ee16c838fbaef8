"""Checks of the compiled engine that need the types: who writes which field, and attributes that do not exist.

A field of a cdef class is written by the module that the class is in; others call its methods. And Cython looks an
attribute that it does not know up when the line runs, so a misspelled one compiles.

    check_engine.py               all of it: lines of what is wrong
    check_engine.py --by-class    how many writes from other modules each class has

It runs Cython's own front end over each module, up to where every expression has its type.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from Cython.Compiler import ExprNodes, Main, Options, Pipeline
from Cython.Compiler.Visitor import TreeVisitor

SOURCE = Path(__file__).resolve().parent.parent / "src"
ENGINE = SOURCE / "pgferry" / "engine"
CLASS = re.compile(r"^(?:cdef |@final\n)?(?:public )?class (\w+)(?:\(([\w.]+)\))?", re.MULTILINE)
METHOD = re.compile(r"^    c?p?def\b.*?(\w+)\(", re.MULTILINE)
FIELDS = re.compile(r"^    cdef [^(\n#]*", re.MULTILINE)


@dataclass
class Use:
    """A write or a lookup: of which class's field, and where."""

    module: str
    owner: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.owner}.{self.name}"


@dataclass
class Found:
    """What was found in a module."""

    writes: list[Use] = field(default_factory=list)
    lookups: list[Use] = field(default_factory=list)


class Finder(TreeVisitor):  # type: ignore[misc]
    """Walks the typed tree of a module."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module
        self.found = Found()

    def visit_Node(self, node: Any) -> None:
        self.visitchildren(node)

    def visit_SingleAssignmentNode(self, node: Any) -> None:
        self.assigned(node.lhs)
        self.visitchildren(node)

    def visit_InPlaceAssignmentNode(self, node: Any) -> None:
        self.assigned(node.lhs)
        self.visitchildren(node)

    def visit_CascadedAssignmentNode(self, node: Any) -> None:
        for each in node.lhs_list:
            self.assigned(each)
        self.visitchildren(node)

    def visit_AttributeNode(self, node: Any) -> None:
        kind = node.obj.type if node.obj is not None else None
        if kind is not None and kind.is_extension_type and node.is_py_attr:
            self.found.lookups.append(Use(self.module, kind.name, node.attribute, node.pos[1]))
        self.visitchildren(node)

    def assigned(self, node: Any) -> None:
        """The target of an assignment."""
        if isinstance(node, ExprNodes.TupleNode | ExprNodes.ListNode):
            for each in node.args:
                self.assigned(each)
        elif isinstance(node, ExprNodes.AttributeNode):
            kind = node.obj.type
            if kind is not None and kind.is_extension_type:
                self.found.writes.append(Use(self.module, kind.name, node.attribute, node.pos[1]))
            elif kind is not None and kind.is_struct_or_union:
                self.assigned(node.obj)  # a struct within an object is a part of it


def analyse(path: Path) -> Found:
    """The writes and lookups of one module."""
    options = Main.CompilationOptions(Options.default_options, language_level=3, include_path=[str(SOURCE)])
    context = Main.Context.from_options(options)
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    source = Main.CompilationSource(Main.FileSourceDescriptor(str(path), path.name), module, str(SOURCE))
    finder = Finder(module)
    steps = []
    for step in Pipeline.create_pyx_pipeline(
        context, options, Main.create_default_resultobj(source, options)
    ):
        steps.append(step)
        if type(step).__name__ == "AnalyseExpressionsTransform":
            break

    def look(tree: Any) -> Any:
        finder.visit(tree)
        return tree

    context.setup_errors(options, None)
    error, _ = Pipeline.run_pipeline([*steps, look], source)
    if error:
        raise SystemExit(f"{path}: {error}")
    if module in context.pxds:
        finder.visit(context.pxds[module][0])  # its inline functions
    return finder.found


@dataclass
class Class:
    """A class as its source has it."""

    module: str
    base: str
    members: set[str]


def classes() -> dict[str, Class]:
    """All classes of the engine by name, with what .pyx and .pxd say of them."""
    found: dict[str, Class] = {}
    for path in sorted([*ENGINE.rglob("*.pxd"), *ENGINE.rglob("*.pyx")]):
        text = path.read_text()
        for head in CLASS.finditer(text):
            body = text[text.index("\n", head.end()) :]
            if end := re.search(r"^\S", body, re.MULTILINE):
                body = body[: end.start()]
            module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            known = found.setdefault(head[1], Class(module, (head[2] or "").rpartition(".")[2], set()))
            known.members.update(METHOD.findall(body))
            known.members.update(name for line in FIELDS.findall(body) for name in re.findall(r"\w+", line))
    return found


def family(name: str, known: dict[str, Class]) -> Iterator[Class]:
    """A class and those that it inherits from."""
    while name in known:
        yield known[name]
        name = known[name].base


def main(arguments: list[str]) -> int:
    known = classes()
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(analyse, sorted(ENGINE.rglob("*.pyx"))))
    foreign = [
        use
        for each in found
        for use in each.writes
        if use.owner in known and use.module not in {c.module for c in family(use.owner, known)}
    ]
    missing = [
        use
        for each in found
        for use in each.lookups
        if use.owner in known
        and not use.name.startswith("__")
        and not any(use.name in c.members for c in family(use.owner, known))
    ]
    if "--by-class" in arguments:
        for owner, count in Counter(use.owner for use in foreign).most_common():
            print(f"{count:5} {owner}")
        print(f"{len(foreign):5} in all, of {len({(u.owner, u.name) for u in foreign})} fields")
        return 0
    for use in foreign:
        print(f"{use}: written outside of the class's module")
    for use in missing:
        print(f"{use}: no such attribute")
    return 1 if foreign or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""YAML text -> plain values, with the place of each key and value.

Duplicate keys are refused (PyYAML keeps the last), dates, sexagesimal numbers and 0x40 stay text, and only plain values
are built. Aliases and merge keys work; those that explode or contain themselves are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml

from pipeline.config.keys import Key, dotted
from pipeline.config.problems import Origin, Problem, Span

MAX_VALUES = 100_000
"""More than any person writes; what aliases of aliases can become is far more."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as PyYAML counts lines
_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {_TAG + name for name in ("str", "timestamp", "value", "merge")}
_VALUE_TAGS = {_TAG + name for name in ("null", "bool", "int", "float")}
_PLAIN_TAGS = _TEXT_TAGS | _VALUE_TAGS | {_TAG + "map", _TAG + "seq"}
_MERGE = _TAG + "merge"
_MAX_INT = 2**63
_ROWS_BY_COLUMNS = re.compile(r"0[xX][0-9]+")
"""`0x40` is a size that somebody wrote, before it is a hexadecimal number."""


class BadYaml(Exception):
    """The text as a whole cannot be read; `problem` says where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


@dataclass
class Document:
    """What a YAML text says. `unusable` are the keys whose value could not be read: they hold None."""

    value: object = None
    origins: dict[Key, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unusable: set[Key] = field(default_factory=set)


def split_lines(text: str) -> list[str]:
    """The lines as the places count them."""
    return _LINE_BREAK.split(text)


def read_yaml(text: str, name: str) -> Document:
    """Read one YAML document; `name` is what messages call it. Raises `BadYaml`."""
    try:
        node = _compose(text, name)
        reader = _Reader(name)
        if node is not None:
            reader.document.value = reader.value(node, (), None)
        return reader.document
    except RecursionError:
        raise BadYaml(Problem(Origin(name), "nested too deeply, or an alias contains itself")) from None


def _compose(text: str, name: str) -> yaml.Node | None:
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.reader.ReaderError as error:
        before = split_lines(text[: error.position])
        mark = Span(len(before) - 1, len(before[-1]), len(before[-1]) + 1)
        problem = f"character U+{ord(text[error.position]):04X} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark, problem = _explain(error)
    except (ValueError, OverflowError):  # "\UFFFFFFFF": PyYAML lets chr() fail
        mark, problem = _point(loader.get_mark() if loader else None), "an escape that is no character"
    raise BadYaml(Problem(Origin(name), f"not valid YAML: {problem}", mark))


def _explain(error: yaml.MarkedYAMLError) -> tuple[Span, str]:
    """Where and why. What never ends is shown where it starts, not at the end of the file."""
    mark, problem = error.problem_mark, error.problem or "cannot be read"
    if "\\t" in problem:
        problem = "a tab; YAML is indented with spaces"
    elif error.context_mark and mark and mark.index >= len((mark.buffer or "").rstrip("\0 \r\n")):
        mark, problem = error.context_mark, f"{error.context}: not closed"
    elif problem.endswith("but got '?'"):  # synthetic://640x480@30?frames=100 in a [list]
        problem += "; between brackets, a text with ? in it needs quotes"
    return _point(mark), problem


def _point(mark: yaml.Mark | None) -> Span:
    return Span(mark.line, mark.column, mark.column + 1) if mark else Span(0, 0, 1)


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    return Span(start.line, start.column, end.column if end.line == start.line else None)


class _Reader:
    """Builds the values of one document."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.document = Document()
        self.visits = 0

    def value(self, node: yaml.Node, key: Key, at: Span | None) -> object:
        """The value of a node; `at` is where its key stands, if it has one."""
        self._visit()
        self.document.origins[key] = Origin(self.name, at or _span(node), _span(node))
        if node.tag not in _PLAIN_TAGS:
            return self._unusable(node, key, f"the tag {node.tag.replace(_TAG, '!!')} is not supported")
        if isinstance(node, yaml.MappingNode):
            entries = self._entries(node, key).items()
            return {name: self.value(child, (*key, name), _span(name_at)) for name, (name_at, child) in entries}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*key, i), None) for i, child in enumerate(node.value)]
        return self._scalar(node, key)

    def _entries(self, node: yaml.MappingNode, key: Key) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The keys of a mapping; merged ones (`<<: *other`) come first and give way to its own."""
        self._visit()
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for name, child in node.value:
            if name.tag == _MERGE:
                for other in self._merges(child, key):
                    merged = {**self._entries(other, key), **merged}
            elif not isinstance(name, yaml.ScalarNode):
                self._problem(name, key, "a key must be text")
            elif name.value in own:
                first = own[name.value][0].start_mark.line + 1
                self._problem(name, (*key, name.value), f"the key is already in line {first}")
            else:
                own[name.value] = name, child
        return merged | own

    def _merges(self, node: yaml.Node, key: Key) -> list[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        mappings = [other for other in nodes if isinstance(other, yaml.MappingNode)]
        if len(mappings) < len(nodes):
            self._problem(node, key, "<< merges mappings only")
        return mappings

    def _scalar(self, node: yaml.Node, key: Key) -> object:
        text: str = node.value
        if "\0" in text or not _encodable(text):
            return self._unusable(node, key, "contains characters that are no text")
        if node.tag in _TEXT_TAGS or (":" in text and node.tag in _VALUE_TAGS):  # 1:30 is no number here
            return text
        if _ROWS_BY_COLUMNS.fullmatch(text):
            return text
        try:
            value: object = yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, LookupError, yaml.YAMLError):
            return self._unusable(node, key, f"{text!r} is no {node.tag.removeprefix(_TAG)}")
        if isinstance(value, int) and abs(value) >= _MAX_INT:
            return self._unusable(node, key, "the number is too large")
        return value

    def _visit(self) -> None:
        self.visits += 1
        if self.visits > MAX_VALUES:
            raise BadYaml(Problem(Origin(self.name), f"more than {MAX_VALUES} values, counting each use of an alias"))

    def _unusable(self, node: yaml.Node, key: Key, text: str) -> object:
        """None, in place of a value that cannot be read."""
        self.document.unusable.add(key)
        self._problem(node, key, text)
        return None

    def _problem(self, node: yaml.Node, key: Key, text: str) -> None:
        self.document.problems.append(
            Problem(Origin(self.name), f"{dotted(key)}: {text}" if key else text, _span(node))
        )


def _encodable(text: str) -> bool:
    """Whether the text has no half of a surrogate pair, which no file and no terminal can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

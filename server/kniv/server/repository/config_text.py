"""Configurations as text: parsing them, and telling where in them a field stands."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tritonclient.grpc import model_config_pb2

from kniv.server.errors import RepositoryError

MOST_BYTES = 1 << 18
_SHOWN = 200


@dataclass(slots=True, eq=False)
class Node:
    """A field as it stands in a text.

    Attributes:
        place: its dotted path, repeated fields with their index or key: ``instance_group[1].kind``.
        line: its line, from 1.
        column: its column, from 1.
        descriptor: what it is; None if there is no such field, and for the whole text.
        value: what it is set to, unless it is a message; strings without their quotes.
        members: how often each field stands in it.
    """

    place: str
    line: int
    column: int
    descriptor: FieldDescriptor | None = None
    value: str = ""
    members: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration was written.

    Attributes:
        path: its file, or what stands for it.
        nodes: its fields in their order; none if it was not text.
    """

    path: Path
    nodes: tuple[Node, ...] = ()

    def error(self, place: str, problem: str) -> RepositoryError:
        """An error that names a field by its dotted path, and its line if it was text."""
        line = self._line(place)
        return RepositoryError(self.path, f"{f'line {line}: ' if line else ''}{place}: {problem}")

    def _line(self, place: str) -> int:
        """The line of a field, of its first element, or of what it is missing from."""
        same = (node for node in self.nodes if node.place == place or node.place.startswith(f"{place}["))
        around = (node for node in reversed(self.nodes) if place.startswith((f"{node.place}.", f"{node.place}[")))
        nearest = next(same, None) or max(around, key=lambda node: len(node.place), default=None)
        return nearest.line if nearest else min(1, len(self.nodes))


def read_text(text: str, path: Path) -> tuple[model_config_pb2.ModelConfig, Source]:
    """Parse protobuf's text format.

    Raises:
        RepositoryError: the text is too long, cannot be parsed, names an unknown field, or sets one twice.
    """
    _bound(text, path)
    message = model_config_pb2.ModelConfig()
    source = Source(path, tuple(_nodes(text, message.DESCRIPTOR)))
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise _located(error, text, source) from error
    _refuse_repeated(source)
    return message, source


def read_json(text: str, name: str) -> tuple[model_config_pb2.ModelConfig, Source]:
    """Parse protobuf's JSON format.

    Raises:
        RepositoryError: the text is too long, cannot be parsed, names an unknown field, or sets one twice.
    """
    path = Path(f"configuration given for model {name}")
    _bound(text, path)
    message = model_config_pb2.ModelConfig()
    try:
        if not text.lstrip().startswith("{"):
            raise ValueError("it is no JSON object")
        json_format.Parse(text, message)
    # Besides its own errors the parser lets those through that odd values cause in it.
    except (json_format.Error, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RepositoryError(path, f"cannot be parsed: {_gist(error)}") from error
    return message, Source(path)


def keyed(field_name: str, key: object) -> str:
    """How an entry of a map is written in a dotted path."""
    return f'{field_name}["{key}"]' if isinstance(key, str) else f"{field_name}[{key}]"


def map_value(descriptor: FieldDescriptor) -> FieldDescriptor | None:
    """What a map's entries hold; None if the field is no map."""
    entry = descriptor.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def _map_key(descriptor: FieldDescriptor | None) -> FieldDescriptor | None:
    if descriptor is None or descriptor.message_type is None or map_value(descriptor) is None:
        return None
    key: FieldDescriptor = descriptor.message_type.fields_by_name["key"]
    return key


def _bound(text: str, path: Path) -> None:
    if len(text) > MOST_BYTES:
        raise RepositoryError(path, f"is longer than {MOST_BYTES:,} characters; a configuration is not")


def _gist(error: Exception) -> str:
    return str(error).partition("\n")[0][:_SHOWN]


def _located(error: text_format.ParseError, text: str, source: Source) -> RepositoryError:
    """The parser's error with the field that it met it in."""
    line, column = error.GetLine() or 0, error.GetColumn() or 0
    problem = str(error).partition(" : ")[2] or str(error)
    if line:
        # The parser quotes the whole line, which is as long as its writer likes.
        problem = problem.removeprefix(f"'{text.split(chr(10))[line - 1]}': ")
    before = [node.place for node in source.nodes if (node.line, node.column) <= (line, column)]
    where = f"line {line}: {f'{before[-1]}: ' if before else ''}" if line else ""
    return RepositoryError(source.path, f"{where}{problem[:_SHOWN]}")


def _refuse_repeated(source: Source) -> None:
    """The parser takes the last of several entries of one key, and does not see a field set again after its default."""
    seen: dict[tuple[str, str], Node] = {}
    for node in source.nodes:
        if node.descriptor is not None:
            first = seen.setdefault((node.place, node.descriptor.full_name), node)
            if first is not node:
                problem = f"line {node.line}: {node.place}: is set again, after line {first.line}; keep one"
                raise RepositoryError(source.path, problem)


def _nodes(text: str, root: Descriptor) -> list[Node]:
    """The fields of a text in their order, as far as it can be read.

    Works on the tokens of the library's own parser, which does not keep positions.
    """
    found: list[Node] = []
    # Open messages, and open lists with the name of the field that they are of; each with what closes it.
    open_: list[tuple[Node, str, str]] = [(Node("", 1, 1), "", "")]
    try:
        tokens = text_format.Tokenizer(text.split("\n"))
        while not tokens.AtEnd():
            owner, name, end = open_[-1]
            if end and tokens.TryConsume(end):
                open_.pop()
                if not name and (key := _map_key(owner.descriptor)) is not None:
                    _rename(owner, key, found)
                continue
            if tokens.TryConsume(",") or tokens.TryConsume(";"):
                continue
            if name:
                value, end = _read_value(tokens)
                node = _add(owner, name, _position(tokens), root, found)
            else:
                name = tokens.ConsumeIdentifierOrNumber()
                position = _position(tokens)
                tokens.TryConsume(":")
                if tokens.TryConsume("["):
                    open_.append((owner, name, "]"))
                    continue
                node = _add(owner, name, position, root, found)
                value, end = _read_value(tokens)
            node.value = value
            if end:
                open_.append((node, "", end))
    except (text_format.ParseError, ValueError):
        pass  # the parser proper will say what is wrong here
    return found


def _position(tokens: text_format.Tokenizer) -> tuple[int, int]:
    """Line and column of the token that was read last."""
    here = tokens.ParseErrorPreviousToken("")  # type: ignore[arg-type]  # it takes a text, whatever its stub says
    return here.GetLine() or 1, here.GetColumn() or 1


def _add(owner: Node, name: str, position: tuple[int, int], root: Descriptor, found: list[Node]) -> Node:
    within = owner.descriptor.message_type if owner.descriptor is not None else root if not owner.place else None
    descriptor = within.fields_by_name.get(name) if within is not None else None
    place = f"{owner.place}.{name}" if owner.place else name
    if descriptor is not None and descriptor.is_repeated:
        place += f"[{owner.members[name]}]"
    owner.members[name] += 1
    found.append(Node(place, *position, descriptor))
    return found[-1]


def _read_value(tokens: text_format.Tokenizer) -> tuple[str, str]:
    """Read a scalar, or the beginning of a message; gives the one's value or what closes the other."""
    for begin, end in (("{", "}"), ("<", ">")):
        if tokens.TryConsume(begin):
            return "", end
    if tokens.token[:1] in ("'", '"'):
        return tokens.ConsumeString(), ""
    value = tokens.token
    tokens.NextToken()
    return value, ""


def _rename(entry: Node, key_field: FieldDescriptor, found: list[Node]) -> None:
    """Name a map's entry, and all that stands in it, by its key."""
    start = len(found) - 1
    while found[start] is not entry:
        start -= 1
    inner = found[start:]
    key = next((node.value for node in inner if node.place == f"{entry.place}.key"), "")
    is_text = key_field.type == FieldDescriptor.TYPE_STRING
    before, named = entry.place, keyed(entry.place.rpartition("[")[0], key if is_text else int(key or "0", 0))
    for node in inner:
        node.place = named + node.place.removeprefix(before).removeprefix(".value")

"""The names of metrics and labels in PromQL expressions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTORS = re.compile(r"\{([^}]*)\}")
_LABEL = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")
_GROUPINGS = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_RANGES = re.compile(r"\[[^]]*\]")
_NAME = re.compile(r"(?<![\w$.])[a-zA-Z_:][\w:]*\b(?!\s*\()")
_WORDS = {
    "by",
    "without",
    "on",
    "ignoring",
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "group_left",
    "group_right",
    "inf",
}


def names(expression: str) -> set[str]:
    """Metrics that an expression names."""
    bare = _RANGES.sub("", _GROUPINGS.sub("", _SELECTORS.sub("", _STRINGS.sub('""', expression))))
    return set(_NAME.findall(bare)) - _WORDS


def labels(expression: str) -> set[str]:
    """Labels that an expression names."""
    bare = _STRINGS.sub('""', expression)
    chosen = {label for selector in _SELECTORS.findall(bare) for label in _LABEL.findall(selector)}
    return chosen | {part.strip() for group in _GROUPINGS.findall(bare) for part in group.split(",") if part.strip()}


def of_dashboard(path: Path) -> list[str]:
    """All expressions of a Grafana dashboard, those that fill its variables too."""
    board = json.loads(path.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries = [variable["query"] for variable in board["templating"]["list"]]
    filled = filter(None, (re.fullmatch(r"label_values\((\w+), (\w+)\)", query) for query in queries))
    return expressions + [f"sum by ({found[2]}) ({found[1]})" for found in filled]


def of_rules(path: Path) -> list[str]:
    """All expressions of a file of Prometheus rules."""
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]

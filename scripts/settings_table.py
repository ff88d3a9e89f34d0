"""Write the table of settings in docs/operations.md anew from ServeSettings."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic_core import PydanticUndefined

from kniv.server.settings import PREFIX, ServeSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
BEGIN, END = "<!-- settings: made by scripts/settings_table.py -->\n", "<!-- end of settings -->"


def table() -> str:
    """One row a setting: flag, environment variable, default, meaning."""
    rows = ["| flag | variable | default | meaning |", "|---|---|---|---|"]
    for name, field in ServeSettings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        empty = value is None or value is PydanticUndefined or value in ("", [])
        default = "" if empty else f"`{json.dumps(value) if isinstance(value, list) else value}`"
        rows.append(f"| `--{name.replace('_', '-')}` | `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def renewed(page: str) -> str:
    """The page with today's table."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + table() + END + tail


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from kniv.server.settings import ServeSettings, load_settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ServeSettings.model_fields:
        monkeypatch.delenv(f"KNIV_{name.upper()}", raising=False)


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kniv.toml"
    file.write_text('port = 1\nhost = "127.0.0.2"\nbatch_rows = 3\n')
    monkeypatch.setenv("KNIV_PORT", "2")
    monkeypatch.setenv("KNIV_BATCH_ROWS", "4")
    settings = load_settings(["--config", str(file), "--port", "3"])
    assert (settings.port, settings.batch_rows, settings.host) == (3, 4, "127.0.0.2")
    monkeypatch.setenv("KNIV_CONFIG", str(file))
    settings = load_settings([])
    assert (settings.port, settings.batch_rows, settings.host) == (2, 4, "127.0.0.2")


@pytest.mark.parametrize(("content", "said"), [("port = ", "kniv.toml is no TOML"), ("prot = 1", "prot")])
def test_a_file_at_fault_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "kniv.toml"
    file.write_text(content)
    with pytest.raises((ValueError, ValidationError), match=said):
        load_settings(["--config", str(file)])


def test_help_documents_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load_settings(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    for name, field in ServeSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in said
        assert f"KNIV_{name.upper()}" in " ".join(said.split())
        assert field.description

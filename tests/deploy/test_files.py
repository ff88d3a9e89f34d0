"""What deploy/ and docs/operations.md say about the server holds."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from scripts.settings_table import PAGE, renewed

from kniv.server.settings import PREFIX, ServeSettings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
UNIT = ROOT / "deploy" / "kniv-serve.service"


def stages() -> dict[str, str]:
    found = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    return {re.match(r"\S+ AS (\S+)", stage)[1]: stage for stage in found}


def test_the_table_of_settings_is_todays():
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page) == page, "run scripts/settings_table.py"


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_images_run_without_rights_and_tell_their_health(name):
    stage = stages()[name]
    assert re.search(r"^USER 65532:65532$", stage, re.M)
    assert 'CMD ["kniv", "health"]' in stage
    assert 'ENTRYPOINT ["kniv-serve", "serve"]' in stage
    for variable in re.findall(rf"{PREFIX}(\w+)=", stage):
        assert variable.lower() in ServeSettings.model_fields
    after = stage.partition("USER ")[2]
    assert "RUN" not in after


def test_images_are_pinned_and_copy_what_there_is():
    for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M):
        assert image in stages() or re.search(r":[\w.-]*\d", image), image
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    for kept in (entry[1:] for entry in ignored if entry.startswith("!")):
        assert (ROOT / kept).exists(), kept


@pytest.fixture
def service() -> configparser.SectionProxy:
    """The unit's [Service], of directives that stand there several times the last."""
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    return unit["Service"]


def test_the_unit_is_hardened_and_waits_for_the_drain(service):
    for name, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict"}.items():
        assert service[name] == value
    fields = ServeSettings.model_fields
    needed = sum(fields[name].default for name in ("drain_seconds", "lame_duck_seconds") if name in fields)
    assert float(service["TimeoutStopSec"]) > needed


def test_the_unit_leaves_the_server_what_it_reads_and_writes(service):
    given = dict(entry.split("=", 1) for entry in service["Environment"].split())
    assert given[PREFIX + "CONFIG"] == "/etc/kniv-serve/serve.toml"
    assert given["XDG_CACHE_HOME"] == f"%C/{service['CacheDirectory']}"
    assert "ProcSubset" not in service, "hides /proc/cpuinfo, by which the weights' levels are chosen"


def test_haproxy_reads_its_file():
    haproxy = os.environ.get("KNIV_HAPROXY") or shutil.which("haproxy", path=f"{os.defpath}:/usr/sbin")
    if haproxy is None:
        pytest.skip("needs haproxy (apt install haproxy, or KNIV_HAPROXY)")
    names = {f"KNIV_REPLICA_{number}": f"127.0.0.1:{number}" for number in (1, 2, 3)} | {"KNIV_BIND": "127.0.0.1:9"}
    done = subprocess.run(
        [haproxy, "-c", "-f", ROOT / "deploy" / "haproxy.cfg"],
        env=os.environ | names,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

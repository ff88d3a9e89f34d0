from __future__ import annotations

from pathlib import Path

import pytest

from kniv.server.errors import RepositoryError
from kniv.server.models.opening import OpenedVersion, open_version
from kniv.server.repository.config import load_config
from kniv.server.repository.layout import find

GPU = "instance_group { kind: KIND_GPU }"
FALLBACK = 'parameters { key: "cpu_fallback" value { string_value: "1" } }'


def opened(repository: Path, config: str) -> OpenedVersion:
    folder = repository / "tiny"
    (folder / "config.pbtxt").write_text(config)
    return open_version(find(repository, "tiny").versions[0], load_config(folder), threads=1)


def without_gpu() -> bool:
    return not Path("/dev/nvidia0").exists()


@pytest.mark.skipif(not without_gpu(), reason="tells what happens on a machine without a GPU")
def test_a_gpu_that_is_not_there_is_an_error_unless_the_configuration_allows_the_cpu(repository: Path) -> None:
    with pytest.raises(RepositoryError, match="cuda:0"):
        opened(repository, GPU)
    version = opened(repository, GPU + FALLBACK)
    assert {name: list(variant.sessions) for name, variant in version.variants.items()} == {
        "int8": ["cpu"],
        "fp32": ["cpu"],
    }


def test_a_device_serves_the_variants_that_the_configuration_names(repository: Path) -> None:
    assert list(opened(repository, "").variants) == ["int8", "fp32"]
    assert list(opened(repository, variants("fp32")).variants) == ["fp32"]
    assert list(opened(repository, variants("fp32,int8")).variants) == ["fp32", "int8"]
    with pytest.raises(RepositoryError, match="fp16"):
        opened(repository, variants("fp16"))


def test_groups_on_one_device_share_a_session_and_add_their_counts(repository: Path) -> None:
    groups = "instance_group { kind: KIND_CPU count: 1 } instance_group { kind: KIND_CPU count: 2 }"
    assert opened(repository, groups).variants["int8"].instances == {"cpu": 3}


def test_a_version_that_changes_while_it_is_read_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kniv.server.models import opening

    def meddle(*_: object) -> None:
        (repository / "tiny" / "2" / "labels.json").touch()

    monkeypatch.setattr(opening, "warm", meddle)
    with pytest.raises(RepositoryError, match="changed while it was read"):
        opened(repository, "")


def variants(names: str) -> str:
    return f'parameters {{ key: "variants_cpu" value {{ string_value: "{names}" }} }}'

"""Settings of ``kniv-serve serve``: from flags, the environment, a file, and these defaults, in that order."""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from kniv.server.models.modes import ControlMode
from kniv.server.security.settings import SecuritySettings
from kniv.server.telemetry.settings import TelemetrySettings

PREFIX = "KNIV_"


class ServeSettings(TelemetrySettings, SecuritySettings, BaseSettings):
    """Serve the models of a repository over gRPC.

    Every flag can also be set by the environment variable named beside it, and by the key of the same
    name in the TOML file that --config names (model_repository = "models"). Flags win over the
    environment, and the environment over the file.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid")

    config: Path | None = Field(None, description="TOML file with settings")
    model_repository: Path = Field(Path("model_repository"), description="folder that holds the models")
    model_control_mode: ControlMode = Field(
        ControlMode.NONE,
        description="who loads models: none (all at the start), poll (the repository's changes), explicit (callers)",
    )
    load_model: list[str] = Field([], description="models to load at the start in explicit mode; * for all")
    repository_poll_seconds: float = Field(15.0, gt=0, description="time between two looks in poll mode")
    default_model: str = Field("", description="model of requests that name none; the first ready one if empty")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(50051, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where models run whose config.pbtxt does not say")
    parallel_runs: int = Field(0, ge=0, description="batches that run side by side on a device; 0 for one a core")
    run_threads: int = Field(1, ge=1, description="threads inside one run")
    batch_tokens: int = Field(512, ge=1, description="padded subwords in one batch")
    batch_rows: int = Field(8, ge=1, description="rows in one batch")
    wait_bound_ms: float = Field(
        50.0, gt=0, description="longest that an urgent row is to wait for the batches under way; bounds their size"
    )
    ageing_seconds: float = Field(
        2.0, gt=0, description="a row of priority level n is overdue, and claims its share, after n times this"
    )
    reserved_share: float = Field(
        0.1, ge=0, le=0.5, description="part of the capacity kept for overdue rows; 0 for strict priorities"
    )
    queue_rows: int = Field(16384, ge=1, description="rows waiting or running, of all callers")
    queue_bytes: int = Field(256 << 20, ge=1, description="bytes of those rows")
    client_rows: int = Field(4096, ge=1, description="rows waiting or running, of one call or stream")
    client_bytes: int = Field(64 << 20, ge=1, description="bytes of those rows")
    stream_sentences: int = Field(64, ge=1, description="sentences in flight of one stream or call")
    call_inputs: int = Field(1024, ge=1, description="texts in one AnnotateText call")
    call_characters: int = Field(1 << 18, ge=1, description="characters of all texts in one AnnotateText call")
    message_bytes: int = Field(8 << 20, ge=1024, le=(1 << 31) - 1, description="largest message accepted, in bytes")
    lame_duck_seconds: float = Field(
        0.0, ge=0, description="time after SIGTERM in which calls are still taken, so that balancers see NOT_SERVING"
    )
    drain_seconds: float = Field(30.0, ge=0, description="time that calls then have to finish")
    run_seconds: float = Field(
        30.0, ge=0, description="a batch that runs longer, and over 20 times what is expected, is stopped; 0 for never"
    )
    run_grace_seconds: float = Field(5.0, gt=0, description="time that it then has to return before it counts as hung")
    exit_when_hung: bool = Field(
        True, description="whether the server drains and exits with status 70 when a batch hangs, to be restarted"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log lines shown")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def log_format_of(arguments: list[str]) -> Literal["text", "json"]:
    """The log's format that arguments or environment ask for, where the settings as a whole cannot be read."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--log-format", default=os.environ.get(f"{PREFIX}LOG_FORMAT"))
    return "json" if finder.parse_known_args(arguments)[0].log_format == "json" else "text"


def load_settings(arguments: list[str]) -> ServeSettings:
    """Settings from command-line arguments, the environment and the file that either names.

    Raises:
        pydantic.ValidationError: a value is out of range, or a key of the file is unknown.
        ValueError: the file is missing or no TOML.
        SystemExit: an argument is unknown, or help was asked for.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", default=os.environ.get(f"{PREFIX}CONFIG"))
    named = finder.parse_known_args(arguments)[0].config
    if named is not None and not Path(named).is_file():
        raise ValueError(f"--config: no such file: {named}")
    if named is not None:
        try:
            tomllib.loads(Path(named).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"--config: {named} is no TOML file: {error}") from error

    class Settings(ServeSettings):
        __doc__ = ServeSettings.__doc__
        model_config = SettingsConfigDict(toml_file=named)

    return CliApp.run(
        Settings,
        cli_args=arguments,
        cli_settings_source=CliSettingsSource[Any](
            Settings,
            cli_prog_name="kniv-serve serve",
            cli_kebab_case=True,
            cli_show_env_vars=True,
            cli_hide_none_type=True,
        ),
    )

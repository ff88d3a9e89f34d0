"""The settings about who may call, and how much."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from kniv.server.security.caller import Grant

_MOST_SECONDS = 1e6  # gRPC takes milliseconds in 32 bits


class SecuritySettings(BaseModel):
    """Transport, callers and their bounds; a part of :class:`kniv.server.settings.ServeSettings`."""

    tls_certificate: Path | None = Field(
        None, description="PEM file with the server's certificate and those of its issuers; read again when it changes"
    )
    tls_key: Path | None = Field(None, description="PEM file with the certificate's private key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file with authorities; clients must show a certificate of one of them (mutual TLS)"
    )
    callers_file: Path | None = Field(
        None, description="TOML file with a line for each caller (see kniv-serve token); read again when it changes"
    )
    admin_token_file: Path | None = Field(None, description="file with one token whose bearer may do everything")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="second port, on the same address, where alone administrators' calls are served",
    )
    jwt_keys_file: Path | None = Field(
        None, description="JWKS file with the public keys that JWTs are checked with; read again when it changes"
    )
    jwt_issuer: str = Field("", description="whom JWTs must come from (iss)")
    jwt_audience: str = Field("", description="whom JWTs must be meant for (aud)")
    jwt_leeway_seconds: float = Field(30.0, ge=0, le=600, description="what a JWT's times may be off")
    certificate_grants: list[Grant] = Field(
        [Grant.ANNOTATE, Grant.INFER],
        description="what a client certificate's holder may do that has no line in the callers' file",
    )
    anonymous_grants: list[Grant] | None = Field(
        None,
        description="what callers may do who prove nothing; if not set, nothing where callers, JWTs or client "
        "certificates are set up, annotate and infer beside an admin token alone, and else everything",
    )
    reflection: bool = Field(True, description="whether anybody may ask for the services' descriptors")
    caller_calls: int = Field(0, ge=0, description="calls and streams of one caller under way; 0 for no bound")
    caller_rows: int = Field(0, ge=0, description="rows of one caller waiting or running; 0 for no bound")
    caller_bytes: int = Field(0, ge=0, description="bytes of those rows; 0 for no bound")
    caller_messages_per_second: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="requests of one caller, on calls and streams; 0 for no bound"
    )
    caller_bytes_per_second: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="bytes of those requests; 0 for no bound"
    )
    caller_burst_seconds: float = Field(
        2.0, gt=0, allow_inf_nan=False, description="so much of those rates may come at once"
    )
    anonymous_apart: bool = Field(
        True, description="whether anonymous callers are told apart by address; else they count as one"
    )
    stream_age_seconds: float = Field(
        0.0, ge=0, description="age, give or take a tenth, at which a stream is to be opened anew; 0 for none"
    )
    stream_idle_seconds: float = Field(
        0.0, ge=0, description="time without a message either way after which a stream is ended; 0 for none"
    )
    connection_age_seconds: float = Field(
        0.0,
        ge=0,
        le=_MOST_SECONDS,
        description="age, give or take a tenth, at which a connection takes no new calls; 0 for none",
    )
    connection_grace_seconds: float = Field(
        300.0, ge=0, le=_MOST_SECONDS, description="time that calls on a connection of that age have to finish"
    )
    connection_idle_seconds: float = Field(
        0.0, ge=0, le=_MOST_SECONDS, description="time without a call after which a connection is closed; 0 for none"
    )
    ping_interval_seconds: float = Field(
        300.0,
        gt=0,
        le=_MOST_SECONDS,
        description="time between two pings of a client; one that keeps to less is sent away",
    )
    log_texts: bool = Field(
        False, description="whether the messages of unexpected errors are logged, which may quote callers' texts"
    )

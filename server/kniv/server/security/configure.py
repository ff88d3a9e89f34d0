"""From the settings to what guards the server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kniv.server.errors import ServeError
from kniv.server.hosts import is_loopback
from kniv.server.security.authenticate import Authenticator
from kniv.server.security.caller import EVERY_GRANT, Bounds, Caller, Grant
from kniv.server.security.quotas import Quotas
from kniv.server.security.roster import read_admin_token, read_roster
from kniv.server.security.settings import SecuritySettings
from kniv.server.security.watched import Watched

if TYPE_CHECKING:
    from kniv.server.security.tls import Tls

log = logging.getLogger(__name__)


def authenticator_of(settings: SecuritySettings) -> Authenticator:
    """Who is known, and what anybody may do.

    Raises:
        ServeError: a file cannot be followed, or a setting is missing.
    """
    rosters = []
    if settings.callers_file is not None:
        rosters.append(Watched("--callers-file", [settings.callers_file], read_roster))
    if settings.admin_token_file is not None:
        rosters.append(Watched("--admin-token-file", [settings.admin_token_file], read_admin_token))
    grants = frozenset(settings.certificate_grants)
    return Authenticator(tuple(rosters), *_jwt_reader(settings), grants, anonymous_grants_of(settings))


def _jwt_reader(settings: SecuritySettings) -> tuple[Callable[[str], Caller] | None, tuple[Watched[Any], ...]]:
    """What reads JWTs, and the files that it heeds."""
    if settings.jwt_keys_file is None:
        if settings.jwt_issuer or settings.jwt_audience:
            raise ServeError("--jwt-issuer and --jwt-audience need --jwt-keys-file")
        return None, ()
    if not (settings.jwt_issuer and settings.jwt_audience):
        raise ServeError("--jwt-keys-file needs --jwt-issuer and --jwt-audience: tokens made for others prove nothing")
    from kniv.server.security.web_tokens import TokenRules, caller_of, read_keys  # late: few servers need it

    keys = Watched("--jwt-keys-file", [settings.jwt_keys_file], read_keys)
    rules = TokenRules(settings.jwt_issuer, settings.jwt_audience, settings.jwt_leeway_seconds)
    return lambda token: caller_of(token, keys.current(), rules), (keys,)


def anonymous_grants_of(settings: SecuritySettings) -> frozenset[Grant]:
    """What callers may do who prove nothing."""
    if settings.anonymous_grants is not None:
        return frozenset(settings.anonymous_grants)
    if settings.callers_file or settings.jwt_keys_file or settings.tls_client_ca:
        return frozenset()
    return EVERY_GRANT - {Grant.ADMIN} if settings.admin_token_file else EVERY_GRANT


def quotas_of(settings: SecuritySettings) -> Quotas:
    """How much each caller may use."""
    bounds = Bounds(
        settings.caller_calls,
        settings.caller_rows,
        settings.caller_bytes,
        settings.caller_messages_per_second,
        settings.caller_bytes_per_second,
    )
    return Quotas(bounds, settings.caller_burst_seconds, apart=settings.anonymous_apart)


def tls_of(settings: SecuritySettings) -> Tls | None:
    """The listeners' TLS; None to serve in clear.

    Raises:
        ServeError: a file cannot be followed, or a setting is missing.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        if settings.tls_certificate or settings.tls_key or settings.tls_client_ca:
            raise ServeError("TLS needs both --tls-certificate and --tls-key")
        return None
    from kniv.server.security.tls import Tls  # late: it takes a moment

    return Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


def channel_options(settings: SecuritySettings) -> list[tuple[str, int]]:
    """gRPC's options about connections: how long they last, and how often clients may ping."""
    options = [
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(settings.ping_interval_seconds * 1e3)),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_permit_without_calls", 0),
    ]
    if settings.connection_age_seconds:
        options.append(("grpc.max_connection_age_ms", round(settings.connection_age_seconds * 1e3)))
        options.append(("grpc.max_connection_age_grace_ms", round(settings.connection_grace_seconds * 1e3)))
    if settings.connection_idle_seconds:
        options.append(("grpc.max_connection_idle_ms", round(settings.connection_idle_seconds * 1e3)))
    return options


def warn_of_openness(settings: SecuritySettings, host: str) -> None:
    """Say plainly what is open to others than this machine's users."""
    if is_loopback(host):
        return
    if settings.tls_certificate is None:
        log.warning(
            "%s: serving in clear beyond this machine: texts, answers and tokens can be read on the way; "
            "set --tls-certificate and --tls-key",
            host,
        )
    if grants := sorted(anonymous_grants_of(settings)):
        log.warning(
            "%s: whoever reaches this address may %s without showing who it is; "
            "set --callers-file, --jwt-keys-file or --tls-client-ca",
            host,
            ", ".join(grants),
        )

"""Options of the command line about the connection."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kniv.client._client import Client
from kniv.client._credentials import tls_credentials
from kniv.client._terminal import InputError


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`connect` reads."""
    parser.add_argument("--target", help="host:port of the server (default: $KNIV_TARGET, else localhost:50051)")
    parser.add_argument("--tls", action="store_true", help="use TLS; any of the next three implies it")
    for name, about in {
        "ca": "PEM file with the server's authority (default: $KNIV_CA, else the public ones)",
        "certificate": "PEM file with the certificate to show the server (default: $KNIV_CERTIFICATE)",
        "key": "PEM file with its private key (default: $KNIV_KEY)",
    }.items():
        parser.add_argument(
            f"--{name}", metavar="FILE", help=about, default=os.environ.get(f"KNIV_{name.upper()}") or None
        )
    parser.add_argument("--token-file", metavar="FILE", help="file with the bearer token (default: $KNIV_TOKEN)")


def connect(arguments: argparse.Namespace) -> Client:
    """A client as the options say."""
    files = {"ca_file": arguments.ca, "certificate_file": arguments.certificate, "key_file": arguments.key}
    try:
        credentials = tls_credentials(**files) if arguments.tls or any(files.values()) else None
        token = Path(arguments.token_file).read_text("ascii").strip() if arguments.token_file else None
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{arguments.token_file}: holds no token") from None
    return Client(arguments.target, credentials=credentials, token=token or os.environ.get("KNIV_TOKEN") or None)

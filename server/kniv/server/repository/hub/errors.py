"""What can go wrong between here and the hub, told in one line each with the way out."""

from __future__ import annotations

import httpx
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from kniv.server.errors import ServeError

_TOKEN = "set HF_TOKEN to a token that may read it"
_REFUSED = (401, 403)
# The first that fits is told.
_SIMPLE: tuple[tuple[type[Exception], str], ...] = (
    (
        OfflineModeIsEnabled,
        "HF_HUB_OFFLINE forbids asking the hub; unset it, or bring the files by 'kniv-serve import'",
    ),
    (HFValidationError, "is no name of a hub repository"),
    (RevisionNotFoundError, "has no revision '{revision}'; name a branch, a tag or a whole commit with --revision"),
    (RemoteEntryNotFoundError, "lists a file that it does not have; try again later"),
    (GatedRepoError, f"is gated: accept its terms on the hub, then {_TOKEN}"),
    (httpx.TimeoutException, "no answer from {endpoint} in time; try again, or raise HF_HUB_ETAG_TIMEOUT"),
    # Both would quote the header, and with it the token.
    (httpx.LocalProtocolError, "cannot ask the hub: HF_TOKEN has characters that a token cannot have"),
    (UnicodeEncodeError, "cannot ask the hub: HF_TOKEN has characters that a token cannot have"),
    (httpx.TransportError, "cannot reach {endpoint}: {error}; check the network, the proxy and HF_ENDPOINT"),
)


class HubError(ServeError):
    """The hub could not give what was asked of it, or gave something else."""


def explained(error: Exception, repository: str, revision: str) -> HubError:
    """An error of the hub's library or of the network, in our words.

    Args:
        error: what was raised.
        repository: the hub's repository.
        revision: branch, tag or commit that was asked for.
    """
    return HubError(f"{repository}: {_told(error, revision)}")


def _told(error: Exception, revision: str) -> str:
    for kind, text in _SIMPLE:
        if isinstance(error, kind):
            return text.format(revision=revision, endpoint=constants.ENDPOINT, error=str(error)[:200])
    if not isinstance(error, HfHubHTTPError):
        return f"{constants.ENDPOINT} does not answer as a hub does ({type(error).__name__}); check HF_ENDPOINT"
    status = error.response.status_code
    if status in _REFUSED:
        return f"the hub refuses access ({status}): it does not exist, or {_TOKEN}"
    if isinstance(error, RepositoryNotFoundError):
        return f"the hub has no such repository, or it is private: check the name, or {_TOKEN}"
    return f"the hub answers {status}; try again later"

"""One file from the hub: resumed where it was cut off, bounded by its stated size, held against its checksum.

The requests go through ``huggingface_hub``'s session, for its endpoint, token, proxy and redirect rules. Its own
``hf_hub_download`` is not used because it keeps nothing of an interrupted file (huggingface_hub issue 4196) and
writes whatever comes, however long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers

from kniv.server.repository.hub.errors import HubError, explained
from kniv.server.repository.hub.listing import RemoteFile

_BUSY = (408, 429, 500, 502, 503, 504)
_PARTIAL, _OUT_OF_RANGE = 206, 416
_LEAST_GAIN = 1 << 20  # bytes; an attempt that brings less counts as failed
_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds


@dataclass(frozen=True, slots=True)
class Place:
    """Where files come from.

    Attributes:
        repository: as ``organisation/name``.
        commit: the pinned commit.
        attempts: failures in a row before giving up.
    """

    repository: str
    commit: str
    attempts: int


class _CutOffError(Exception):
    """The answer ended before the file did."""


def download(place: Place, file: RemoteFile, part: Path, target: Path, arrived: Callable[[int], None]) -> None:
    """Bring ``file`` to ``target``; what is already in ``part`` is not asked for again.

    Args:
        part: receives the bytes, and keeps them if the download is interrupted.
        target: appears once all bytes are there and agree with the hub's checksum.
        arrived: called with the number of bytes in ``part``, now and then.

    Raises:
        HubError: the hub cannot be reached, stalls, refuses, or sends something else than it states.
        OSError: a file cannot be written.
    """
    failures, furthest = 0, _size(part)
    while True:
        try:
            _append(place, file, part, arrived)
            break
        except (httpx.TransportError, HfHubHTTPError, _CutOffError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code not in _BUSY:
                raise explained(error, place.repository, place.commit) from error
            gained, furthest = _size(part) - furthest, max(furthest, _size(part))
            failures = failures + 1 if gained < _LEAST_GAIN else 1
            if failures >= place.attempts:
                raise HubError(_given_up(place, file, furthest, error)) from error
            time.sleep(min(_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE))
        except (httpx.RequestError, OfflineModeIsEnabled) as error:
            raise explained(error, place.repository, place.commit) from error
    _verify(place, file, part)
    part.replace(target)


def _append(place: Place, file: RemoteFile, part: Path, arrived: Callable[[int], None]) -> None:
    """Ask for the bytes that ``part`` lacks and add them to it."""
    if (have := _size(part)) > file.size:
        part.unlink()
        have = 0
    arrived(have)
    if have == file.size and part.exists():
        return
    headers = build_hf_headers(library_name="kniv-serve") | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    url = hf_hub_url(place.repository, file.path, revision=place.commit)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status_code == _OUT_OF_RANGE or (response.status_code == _PARTIAL and not continues):
            part.unlink(missing_ok=True)
            raise _CutOffError("the hub does not go on where the download was cut off")
        hf_raise_for_status(response)
        if response.status_code != _PARTIAL:
            have = 0
        announced = response.headers.get("Content-Length", "")
        if "Content-Encoding" not in response.headers and announced.isdigit() and have + int(announced) != file.size:
            part.unlink(missing_ok=True)
            raise HubError(_lied(place, file, f"sends {have + int(announced):,}"))
        with part.open("r+b" if have else "wb") as writer:
            writer.seek(have)
            for block in response.iter_bytes():
                have += len(block)
                if have > file.size:
                    writer.close()
                    part.unlink()
                    raise HubError(_lied(place, file, "sends more"))
                writer.write(block)
                arrived(have)
    if have < file.size:
        raise _CutOffError(f"the answer ended after {have:,} of {file.size:,} bytes")


def _verify(place: Place, file: RemoteFile, part: Path) -> None:
    """Hold the bytes against the stated checksum; what does not agree is thrown away."""
    hasher = file.hasher()
    with part.open("rb") as reader:
        while block := reader.read(1 << 20):
            hasher.update(block)
    if hasher.hexdigest() != file.digest:
        part.unlink()
        problem = f"the checksum is {hasher.hexdigest()} where the hub states {file.digest}"
        raise HubError(f"{place.repository}/{file.path}: {problem}; nothing of it was kept, try again")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _lied(place: Place, file: RemoteFile, sent: str) -> str:
    return f"{place.repository}/{file.path}: the hub states {file.size:,} bytes but {sent}; nothing of it was kept"


def _given_up(place: Place, file: RemoteFile, have: int, error: Exception) -> str:
    kept = f"given up after {place.attempts} attempts with {have:,} of {file.size:,} bytes, which are kept"
    match error:
        case httpx.TimeoutException():
            why = f"the hub sent nothing for {constants.HF_HUB_DOWNLOAD_TIMEOUT} s (HF_HUB_DOWNLOAD_TIMEOUT)"
        case HfHubHTTPError():
            why = f"the hub answers {error.response.status_code}"
        case _:
            why = str(error) or type(error).__name__
    return f"{place.repository}/{file.path}: {why}; {kept}: the same command goes on there"

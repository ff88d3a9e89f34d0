"""Who may make administrators' calls: those that change what the server does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kniv.server.errors import DeniedError, NotAllowedError, ServeError

_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Access:
    """The guard of the administrators' calls on one listener.

    Attributes:
        digest: SHA-256 of the token that such a call must carry; None for none. The token itself is not kept.
        elsewhere: whether another listener serves these calls, and this one none.
    """

    digest: bytes | None = None
    elsewhere: bool = False

    @classmethod
    def of(cls, token_file: Path | None, *, elsewhere: bool) -> Access:
        """The guard that the settings ask for.

        Args:
            token_file: holds the token, blanks around it apart; None for no token.
            elsewhere: whether another listener serves these calls.

        Raises:
            ServeError: the file cannot be read, is too large, or holds no token of visible ASCII characters.
        """
        if token_file is None:
            return cls(None, elsewhere)
        try:
            with token_file.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ServeError(f"--admin-token-file: {token_file} cannot be read: {error.strerror}") from error
        token = content.strip()
        if len(content) > _MOST_BYTES or not token or any(not 0x21 <= byte <= 0x7E for byte in token):
            raise ServeError(
                f"--admin-token-file: {token_file} must hold one token of visible ASCII characters, "
                f"in at most {_MOST_BYTES} bytes"
            )
        return cls(_digest(token), elsewhere)

    def check(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Let an administrator's call pass.

        Args:
            metadata: the call's.

        Raises:
            NotAllowedError: these calls are served by another listener.
            DeniedError: the call does not carry the token.
        """
        if self.elsewhere:
            raise NotAllowedError("administrators' calls are served on the port that --admin-port names, not here")
        if self.digest is None:
            return
        given = [value for key, value in metadata or () if key == "authorization"]
        if not given:
            raise DeniedError("this is an administrator's call: it needs the metadata 'authorization: Bearer TOKEN'")
        text = given[0] if isinstance(given[0], bytes) else given[0].encode()
        scheme, _, token = text.partition(b" ")
        # Digests have one length, so that the comparison's time tells nothing of the token.
        right = hmac.compare_digest(_digest(token.strip()), self.digest)
        if len(given) > 1 or scheme.lower() != b"bearer" or not right:
            raise DeniedError("the metadata 'authorization' does not carry the administrators' token")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()

"""``kniv-serve`` with faults that files in a folder switch on: ``python faulty.py FOLDER serve FLAGS``.

``hold-MODEL`` keeps the model from being opened, ``hang`` keeps runs from returning (a file
``hanging`` tells when one is caught), ``stall`` does so until they are
told to stop; each for as long as the file is there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from kniv.server.cli import app
from kniv.server.models import control
from kniv.server.runtime.session import Session

_LOOK_SECONDS = 0.01


def _while(fault: Path) -> bool:
    if not fault.exists():
        return False
    time.sleep(_LOOK_SECONDS)
    return True


def main() -> None:
    """Put the faults in and run the command."""
    faults = Path(sys.argv.pop(1))
    run, open_version = Session.run, control.open_version

    def faulty_run(
        self: Session, ids: Any, mask: Any, predicates: Any, outputs: tuple[str, ...], switch: Any = None
    ) -> Any:
        while switch is not None and _while(faults / "hang"):
            (faults / "hanging").touch()
        while switch is not None and _while(faults / "stall"):
            if switch.terminate:
                raise RuntimeError("told to stop")
        return run(self, ids, mask, predicates, outputs, switch)

    def held(files: Any, *more: Any, **others: Any) -> Any:
        while _while(faults / f"hold-{files.model}"):
            pass
        return open_version(files, *more, **others)

    Session.run = faulty_run  # type: ignore[method-assign]
    control.open_version = held  # type: ignore[attr-defined]
    app()


if __name__ == "__main__":
    main()

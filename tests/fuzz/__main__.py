"""Fuzzing as long as one likes: the stream's protocol by any sequence of messages, and all that reads foreign bytes.

    python -m tests.fuzz --seconds 600           the time is shared by all targets
    python -m tests.fuzz --seconds 60 stream     one of them

Each target runs in a process of its own under atheris, which follows the code's coverage; what it finds worth keeping
is kept in ``runs/fuzz`` for the next time. Input that a target fails on is written there as ``crash-*``, and the
command ends with 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 4096  # bytes of an input


def main() -> None:
    """Run all targets, or with ``--one`` a single one in this process."""
    # Imported late: the one process that is to be followed must first tell atheris to follow the imports.
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--work", type=Path, default=_ROOT / "runs" / "fuzz")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _fuzz(options.one, options.seconds, options.work)
        return
    from tests.fuzz.targets import TARGETS

    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no target {', '.join(unknown)}; there are: {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    share = max(1, options.seconds // len(names))
    failed = [name for name in names if not _passes(name, share, options.work)]
    print(f"failed: {', '.join(failed)}; see {options.work}" if failed else "nothing found")
    sys.exit(bool(failed))


def _passes(name: str, seconds: int, work: Path) -> bool:
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--seconds", str(seconds), "--work", str(work)]
    print(f"{name}: {seconds} s", flush=True)
    return subprocess.run(command, cwd=_ROOT, check=False).returncode == 0


def _fuzz(name: str, seconds: int, work: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["kniv.server", "google.protobuf"]):
        from tests.fuzz.targets import TARGETS
    target, seeds = TARGETS[name]
    corpus = work / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=60", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={corpus}/", str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

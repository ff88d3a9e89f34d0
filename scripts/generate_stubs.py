"""Generate client/kniv/v1 from protos/kniv/v1: messages, type stubs and gRPC stubs."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(output: Path) -> None:
    """Write the stubs of every proto below ``protos`` to ``output`` (the folder that holds ``kniv/``)."""
    protos = ROOT / "protos"
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{protos}", f"-I{well_known}"]
    outputs = [f"--python_out={output}", f"--pyi_out={output}", f"--grpc_python_out={output}"]
    if protoc.main([*arguments, *outputs, *sources]) != 0:
        sys.exit("protoc failed")
    for empty in output.rglob("*_pb2_grpc.py"):
        if "_registered_method" not in empty.read_text(encoding="utf-8"):
            empty.unlink()  # protos without a service


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "client")

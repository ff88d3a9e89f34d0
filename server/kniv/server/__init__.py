"""The kniv server."""

import os

# From 1.29 on, ONNX Runtime's builds for Linux tell Microsoft of sessions and runs unless this says no before they are
# imported. A server tells nobody; whoever wants to sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

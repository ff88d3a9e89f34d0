"""How properties are tested: they are held to what they say, never to how long a busy machine takes for an example."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as kniv.server does: tests may import ONNX Runtime before it
settings.register_profile("kniv", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kniv")

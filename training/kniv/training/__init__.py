"""How the cascade is trained, exported and judged."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as kniv.server does, and says why

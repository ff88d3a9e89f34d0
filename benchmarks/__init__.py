"""Every figure in the docs, reproducible by one command each."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # as kniv.server does, and says why

"""``python -m kniv.server``."""

from kniv.server.cli import app

app()

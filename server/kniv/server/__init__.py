"""The kniv server."""

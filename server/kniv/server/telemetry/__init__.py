"""Traces, metrics and structured logs. Nothing below imports it: it listens where the lower rooms say what they do."""

"""Which row runs when, and with whom."""

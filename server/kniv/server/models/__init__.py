"""Models in memory: loading them, the states they go through, what requests are given."""

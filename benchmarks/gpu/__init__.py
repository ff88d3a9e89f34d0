"""Benchmark of the graphs on a GPU."""

"""Benchmarks of the graphs alone and through the server: as published against rewritten."""

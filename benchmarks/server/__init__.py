"""What the server costs and holds to, in ratios of runs taken in turns on one machine. See `__main__`."""

"""Every figure in the docs, reproducible by one command each."""

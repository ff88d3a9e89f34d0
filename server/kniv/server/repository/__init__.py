"""Models on disk: layout, labels, metadata."""

"""Passes over ONNX graphs: the cascade as published, rewritten to answer the same, faster."""

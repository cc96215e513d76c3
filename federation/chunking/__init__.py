"""Cutting packages into chunks: where tensors start, content-defined cuts, hashes, encodings."""

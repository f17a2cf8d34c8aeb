"""Benchmarks of training and inference: each part is a module with `measure(data, quick, say)`."""

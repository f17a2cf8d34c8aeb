"""Benchmarks of stores behind URLs."""

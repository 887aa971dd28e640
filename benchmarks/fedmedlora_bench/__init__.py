"""Benchmarks: scenarios, baselines, cost and their tables."""

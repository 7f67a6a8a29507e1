"""Benchmarks against peers, in one run on the same machine and the same inputs: `make bench`."""

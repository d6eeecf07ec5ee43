"""The library beside its peers, on the same models in the same run: `python -m benchmarks`."""

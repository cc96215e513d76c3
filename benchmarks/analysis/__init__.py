"""How often the canary analysis is wrong, and how soon right: python -m benchmarks.analysis."""

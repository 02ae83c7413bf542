"""Unlearning benchmarks, one per file: named sets of examples, and probes."""

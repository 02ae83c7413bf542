"""raymcu: a distributed sweep engine for machine-unlearning research."""

__version__ = "0.1.0"

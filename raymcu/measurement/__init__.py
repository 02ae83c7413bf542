"""What a model does on the probes: likelihood and generation, and the pool of Ray actors."""

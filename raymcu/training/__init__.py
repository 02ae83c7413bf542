"""Training without Ray, and the driver that runs it under Ray Tune and Ray Train."""

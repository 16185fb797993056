"""The autotuner: plans timed in a worker process, checked against the reference, and kept for later calls."""

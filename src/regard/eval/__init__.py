"""Systems against systems: baselines and reports."""

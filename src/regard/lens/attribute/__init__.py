"""Which tokens an answer depends on: one file for each family of methods, one signature for all."""

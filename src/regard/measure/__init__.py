"""Numbers about predictions: numpy only."""

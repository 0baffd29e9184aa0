"""Gradients: the loop, the optimisers, the objectives."""

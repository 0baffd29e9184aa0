"""Activations seen and changed."""

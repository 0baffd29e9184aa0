"""Weights and mathematics."""

"""Strings to ids and back; never torch."""

"""Regard: BERT with its attention in the open."""

"""Corpora for pre-training: gathered from strangers' files, cleaned, without duplicates, counted, in shards."""

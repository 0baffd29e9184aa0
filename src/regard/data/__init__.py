"""Rows of strangers' files to packed ids."""

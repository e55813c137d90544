"""Rows of the catalogue, one family a file: what a measure reads, and the kernel it calls."""

"""Geometry: the shape of a cloud of hidden states."""

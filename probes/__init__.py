"""Stimuli with known answers, and readouts of what a model makes of them."""

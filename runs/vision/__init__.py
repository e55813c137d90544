"""Models that read images and text: what capture asks of them."""

from runs.vision.base import Conditions, VisionAdapter

__all__ = ["Conditions", "VisionAdapter"]

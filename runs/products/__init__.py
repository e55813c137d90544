"""Capture products, one a file: what is written down of a checkpoint for each set."""

from runs.products.attention import Attention
from runs.products.base import ArraySpec, Batch, Collector, Product, Spec
from runs.products.contexts import Contexts
from runs.products.fisher import Fisher
from runs.products.hidden import Hidden
from runs.products.massive import Massive
from runs.products.moments import MomentsProduct
from runs.products.tokens import Tokens
from runs.products.trajectory import Trajectory

PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        Hidden(),
        MomentsProduct(),
        Attention(),
        Tokens(),
        Fisher(),
        Contexts(),
        Trajectory(),
        Massive(),
    )
}

__all__ = ["PRODUCTS", "ArraySpec", "Batch", "Collector", "Product", "Spec"]

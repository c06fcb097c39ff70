"""Recipes that fine-tune Higgs Audio v2 with the Hugging Face libraries."""

from typing import Any


__version__ = "0.1.0"
__all__ = ["Speaker"]


def __getattr__(name: str) -> Any:
    """Import `Speaker` on first use (PEP 562): the package alone imports neither torch nor transformers."""
    if name == "Speaker":
        from higgs_recipes.generation.speaker import Speaker

        return Speaker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

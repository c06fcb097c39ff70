"""Recipes that fine-tune Higgs Audio v2 with the Hugging Face libraries."""

__version__ = "0.1.0"

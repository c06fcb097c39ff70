from higgs_recipes.configs.model import ModelConfig


__all__ = ["ModelConfig"]

from higgs_recipes.modeling.model import load_model


__all__ = ["load_model"]

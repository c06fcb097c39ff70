from torch import nn

from higgs_recipes.modeling.replace_layers import replace_in_layers
from tests.helpers.tiny import golden_model


def test_only_the_chosen_modules_of_the_layers_are_replaced():
    model = golden_model()
    head, layers = model.text_lm_head, model.model.layers
    kept = layers[0].self_attn.k_proj
    queries = [layer.self_attn.q_proj for layer in layers]
    replace_in_layers(model, is_replaced=lambda module: module in queries, build=lambda module: nn.Sequential(module))
    assert [layer.self_attn.q_proj[0] for layer in layers] == queries
    assert layers[0].self_attn.k_proj is kept and model.text_lm_head is head

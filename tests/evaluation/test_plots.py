import re

from higgs_recipes.evaluation.plots import training_plots
from tests.helpers.evaluation_record import RUN


def test_each_plot_has_a_caption_with_the_first_and_last_values():
    captions = [plot["caption"] for plot in training_plots(RUN["log_history"])]
    assert captions[0] == ("Loss, steps 1 to 20: training 7 to 0.35, text 1 to 0.05, held-out 0.5 to 0.5.")
    assert captions[1].startswith("Loss per codebook, steps 1 to 20: codebook 0 6 to 0.3, codebook 1 7 to 0.35")
    assert captions[2:] == [
        "EOS accuracy, steps 1 to 20: training 0.05 to 1.",
        "EOS loss, steps 1 to 20: training 2 to 0.1.",
    ]


def test_plots_use_the_colors_of_the_page():
    svg = "".join(plot["svg"] for plot in training_plots(RUN["log_history"]))
    assert {f"var(--c{index})" for index in range(8)} <= set(re.findall(r"var\(--c\d\)", svg))
    assert "var(--line)" in svg and "currentColor" in svg
    assert not re.search("#0708|#010203|#040506", svg)


def test_plots_have_unique_ids_and_a_description():
    plots = training_plots(RUN["log_history"])
    ids = [found for plot in plots for found in re.findall(r'\bid="(.*?)"', plot["svg"])]
    assert ids and len(ids) == len(set(ids))
    links = {found for plot in plots for found in re.findall(r'href="#(.*?)"|url\(#(.*?)\)', plot["svg"])}
    assert {name for pair in links for name in pair if name} <= set(ids)
    for plot in plots:
        assert f'role="img" aria-label="{plot["caption"]}"' in plot["svg"]


def test_a_plot_is_the_same_at_every_call():
    assert training_plots(RUN["log_history"]) == training_plots(RUN["log_history"])


def test_curves_without_finite_values_are_left_out():
    (plot,) = training_plots([{"step": 1, "loss": 2.0, "loss_text": float("nan")}, {"step": 2, "loss": 1.0}])
    assert plot["caption"] == "Loss, steps 1 to 2: training 2 to 1."
    assert training_plots([]) == []

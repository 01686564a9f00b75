"""Figures show what they are told, and whom."""

from datetime import datetime
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from mlruns_config.figures import bars_figure, gain_figure, gain_table, learning_figure, replay_figure
from recommenders.explain import gains


def test_figures_show_who_discloses(tmp_path):
    figure = gain_figure(
        {
            "north": {"alone": 0.1, "consortium": 0.2, "reachable": 0.4},
            "south": {"alone": None, "consortium": None, "reachable": None},
        },
        "ndcg_at_10",
    )
    figure.savefig(tmp_path / "gain.png")
    assert [label.get_text() for label in figure.axes[0].texts] == ["north"]
    lines, *marks = figure.axes[0].collections
    assert lines.get_zorder() < min(each.get_zorder() for each in marks)
    compared = gain_figure({"north": {"alone": 0.1, "consortium": 0.2, "pooled": 0.2}}, "ndcg_at_10")
    legend = [text.get_text() for text in compared.axes[0].get_legend().get_texts()]
    assert legend == ["alone", "consortium", "pooled"]
    wide = gain_figure({"n" * 64: {"alone": 0.1, "consortium": 0.2}}, "ndcg_at_10")
    wide.savefig(tmp_path / "wide.png")
    assert wide.axes[0].get_position().width > 0.3  # the name leaves room for its line
    nobody = gain_figure({"south": {"alone": None, "consortium": None}}, "ndcg_at_10")
    nobody.savefig(tmp_path / "nobody.png")
    assert nobody.axes[0].get_legend() is None
    shown = {"north": {"alone": 0.1, "consortium": 0.2}, "south": {"alone": None, "consortium": None}}
    table = gain_table(shown, "ndcg_at_10").splitlines()
    assert table[2:] == ["| north | 0.1000 | 0.2000 | +100.0% |", "| south |  |  |  |"]
    parts = {"validation": {"alone": 0.1}, "test": {"alone": 0.1, "reachable": 0.4}}
    curve = learning_figure(parts, "ndcg_at_10")
    curve.savefig(tmp_path / "learning.png")
    assert curve.axes[0].get_ylabel() == "ndcg_at_10"
    assert [label.get_text() for label in curve.axes[0].get_xticklabels()] == [*parts]
    assert figure.axes[0].get_xlim()[0] == curve.axes[0].get_ylim()[0] == 0
    equal = gain_figure({"north": {"alone": 0.2999, "consortium": 0.3}}, "ndcg_at_10")
    assert equal.axes[0].get_xlim()[1] > 0.31  # its marks are whole
    assert learning_figure({"validation": {}, "test": {}}, "ndcg_at_10").axes[0].get_legend() is None


def test_what_the_ranker_looks_at_is_in_shares(tmp_path):
    x = np.arange(400.0).reshape(-1, 2) % [[7, 3]]
    data = lightgbm.Dataset(x, x[:, 1] + x[:, 0] / 10, feature_name=["less", "more"])
    state = SimpleNamespace(text=lightgbm.train({"verbosity": -1}, data, 5).model_to_string())
    shares = gains(state)
    assert list(shares) == ["more", "less"]
    assert sum(shares.values()) == pytest.approx(1)
    figure = bars_figure(shares, "share")
    assert figure.axes[0].get_ylim() == (1.5, -0.5)


def test_a_replay_s_plot_tells_fixed_intervals_from_policies(tmp_path):
    names = ("every 1 d", "every 2 d", "plateau")
    nobody = float("nan")  # asked in the first window
    spent = {"bytes": [0.0] * 3, "seconds": [0.0] * 3, "regret": [nobody, 0.0, 0.1]}
    trainings = ([0, 1, 1], [0, 1, 0], [0, 1, 0])
    values = ([nobody, 0.5, 0.5], [nobody, 0.5, 0.3], [nobody, 0.5, 0.4])
    courses = {
        name: {**spent, "trainings": trained, "metric": metric}
        for name, trained, metric in zip(names, trainings, values, strict=True)
    }
    moments = [datetime(2024, 1, 1), datetime(2024, 1, 8), datetime(2024, 1, 15)]
    figure = replay_figure(moments, courses, ["every 1 d", "every 2 d"], "NDCG@10")
    figure.savefig(tmp_path / "replay.png")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*names]
    many = {f"every {224 - number} d": courses["every 1 d"] for number in range(10)}
    wide = replay_figure(moments, many, [*many], "NDCG@10")
    wide.savefig(tmp_path / "wide.png")
    legend = wide.legends[0].get_window_extent()
    assert wide.bbox.x0 < legend.x0 < legend.x1 < wide.bbox.x1  # its names are whole
    line, *dots = figure.axes[-1].lines
    np.testing.assert_allclose(line.get_xydata(), [[1 / 3, 0.8], [2 / 3, 1.0]])
    assert [text.get_text() for text in figure.axes[-1].texts] == ["1 d", "2 d"]
    np.testing.assert_allclose(dots[2].get_xydata(), [[1 / 3, 0.9]])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [nobody, 0.5, 0.5])
    np.testing.assert_allclose(figure.axes[4].lines[0].get_ydata(), [0.0, 0.0, 0.1])

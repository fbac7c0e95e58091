"""The training of a style network: what is learnt, what is kept, and that it can be left and resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch
from torch import Tensor, nn

from engines.errors import FrameloomError
from pipeline.errors import ConfigError
from tests.tools.train.style_parts import SMALL, new_training, same_weights, trained, without_times
from tools.train import style_loop
from tools.train.style_loop import MARGIN, StyleTraining, to_picture, to_tensor
from tools.train.style_losses import shifted
from tools.train.style_network import StyleNetwork

pytestmark = pytest.mark.usefixtures("one_thread")


def test_losses_fall() -> None:
    settings = replace(SMALL, iterations=30, test_every=30, mixed_precision=False, learning_rate=1e-2)
    training = new_training(settings)
    before = training.test()
    training.run(None, lambda tested: None, lambda done, total: None)
    after = training.history[-1].losses
    assert after.total < 0.6 * before.total
    assert after.style < 0.6 * before.style


def test_a_resumed_training_equals_one_that_was_not_interrupted(tmp_path: Path) -> None:
    settings = replace(SMALL, iterations=8)  # tested after 3, 6 and 8
    whole = trained(settings, tmp_path / "whole.pt")
    half = new_training(settings)

    def interrupt(done: int, total: int) -> None:
        if done == 5:  # two iterations after the checkpoint, one of them with a moved picture
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half.run(tmp_path / "half.pt", lambda tested: None, interrupt)
    resumed = new_training(settings)
    resumed.resume(tmp_path / "half.pt")
    assert [tested.iteration for tested in resumed.history] == [3]
    numbers: list[int] = []
    resumed.run(tmp_path / "half.pt", lambda tested: None, lambda done, total: numbers.append(done))
    assert numbers == [4, 5, 6, 7, 8]
    assert without_times(resumed.history) == without_times(whole.history)
    assert same_weights(resumed.network, whole.network)
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "half")]
    for first, second in zip(*(state["optimiser"]["state"].values() for state in states), strict=True):
        assert all(torch.equal(first[name], second[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_the_same_seed_gives_the_same_network_and_another_gives_another() -> None:
    first, second, other = (trained(replace(SMALL, seed=seed)) for seed in (3, 3, 4))
    assert same_weights(first.network, second.network)
    assert not same_weights(first.network, other.network)


def test_training_leaves_the_random_numbers_of_torch_alone() -> None:
    training = new_training()
    torch.manual_seed(9)
    wanted = torch.rand(3)
    torch.manual_seed(9)
    StyleNetwork(4)
    training.run(None, lambda tested: None, lambda done, total: None)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("broken", "where"), [("johnson_content", "content"), ("total_variation", "smooth"), ("stability", "stable")]
)
def test_a_loss_that_is_no_number_ends_the_training_and_leaves_the_last_good_checkpoint(
    broken: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pt"
    training = new_training()

    def break_loss(done: int, total: int) -> None:
        if done == 4:
            monkeypatch.setattr(style_loop, broken, lambda *_: torch.tensor(torch.nan))

    words = f"the {where} loss in iteration 5 is nan: choose a smaller .*--begin-with {path} goes on from iteration 3$"
    with pytest.raises(FrameloomError, match=words):
        training.run(path, lambda tested: None, break_loss)
    monkeypatch.undo()
    kept = new_training(replace(SMALL, learning_rate=1e-4))
    kept.begin_with(path)
    assert np.isfinite(kept.test().total)


def test_weights_that_are_no_numbers_after_the_last_iteration_are_not_kept(tmp_path: Path) -> None:
    """The gradient may break where the loss does not; only a test tells."""
    training = new_training()

    def break_weights(done: int, total: int) -> None:
        if done == 6:
            with torch.no_grad():
                next(training.network.parameters()).fill_(torch.nan)

    with pytest.raises(FrameloomError, match="the content loss after iteration 6 is nan: choose a smaller"):
        training.run(tmp_path / "c.pt", lambda tested: None, break_weights)
    kept = new_training()
    kept.resume(tmp_path / "c.pt")
    assert kept.history[-1].iteration == 3
    assert all(bool(weights.isfinite().all()) for weights in kept.network.parameters())


def test_a_loss_that_is_no_number_before_there_is_a_checkpoint_offers_none(tmp_path: Path) -> None:
    training = new_training()
    with torch.no_grad():
        next(training.network.parameters()).fill_(torch.nan)
    with pytest.raises(FrameloomError, match=r"content loss in iteration 1 is nan: choose a smaller --learning-rate$"):
        training.run(tmp_path / "c.pt", lambda tested: None, lambda done, total: None)
    assert not list(tmp_path.iterdir())


def test_another_painting_other_pictures_and_other_settings_cannot_be_resumed(tmp_path: Path) -> None:
    trained(SMALL, tmp_path / "c.pt")
    for other, words in (
        (new_training(painting=98), r"made with other painting: 1 \(.*\), now 1 \(.*\); leave out --resume"),
        (new_training(pictures=7), r"made with other pictures: 6 \(.*\), now 7"),
        (new_training(replace(SMALL, style_weight=3.0)), "made with other style-weight: 12.0, now 3.0"),
        (new_training(replace(SMALL, iterations=9)), "made with other iterations: 6, now 9"),
    ):
        with pytest.raises(ConfigError, match=words):
            other.resume(tmp_path / "c.pt")


def test_a_network_of_another_shape_and_what_is_none_cannot_be_begun_with(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    trained(replace(SMALL, iterations=1), path)
    with pytest.raises(ConfigError, match=r"c.pt is a network of another shape: it was made with --width 4$"):
        new_training(replace(SMALL, width=8)).begin_with(path)
    path.write_bytes(path.read_bytes()[:3000])
    for wrong in (path, tmp_path / "absent.pt"):
        with pytest.raises(ConfigError, match=r"--begin-with .* is not there, or no checkpoint of a style network"):
            new_training().begin_with(wrong)


def test_a_network_that_does_not_care_where_things_are_is_perfectly_stable() -> None:
    class Inverse(nn.Module):
        def forward(self, rgb: Tensor) -> Tensor:
            return 255 - rgb

    training = new_training()
    assert training.test().stable > 0
    training.network = Inverse()  # type: ignore[assignment]
    assert training.test().stable == 0


def test_a_moved_picture_is_the_same_picture_elsewhere() -> None:
    pictures = torch.arange(32.0 * 40).view(1, 1, 32, 40)
    moved = shifted(pictures, 3, -5, MARGIN)
    assert moved.shape == (1, 1, 32 - 2 * MARGIN, 40 - 2 * MARGIN)
    assert float(moved[0, 0, 0, 0]) == float(pictures[0, 0, MARGIN + 3, MARGIN - 5])
    with pytest.raises(ValueError, match="more than the margin"):
        shifted(pictures, MARGIN + 1, 0, MARGIN)


@pytest.mark.parametrize(
    ("change", "pictures", "words"),
    [({}, 2, "2 pictures are too few: 2 of them are to be held out"), ({"size": 66}, 6, "--size 66 is no multiple of")],
)
def test_too_few_pictures_and_an_odd_size_are_refused(change: dict[str, int], pictures: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        new_training(replace(SMALL, **change), pictures)  # type: ignore[arg-type]


def test_the_preview_has_each_held_out_picture_above_its_styled_self() -> None:
    training = new_training()
    preview = training.preview()
    assert preview.shape == (2 * 64, 2 * 64, 3)
    np.testing.assert_array_equal(preview[:64, 64:], training.held_out[1])
    with torch.no_grad():
        wanted = to_picture(training.network(to_tensor(training.held_out[1:])))
    np.testing.assert_array_equal(preview[64:, 64:], wanted)


def test_pictures_are_the_same_after_there_and_back() -> None:
    picture = new_training().held_out[0]
    tensor = to_tensor([picture])
    np.testing.assert_array_equal(tensor[0, :, 5, 7].numpy(), picture[5, 7, ::-1])  # red first
    np.testing.assert_array_equal(to_picture(tensor), picture)


@pytest.mark.parametrize("depthwise", [True, False])
def test_a_network_gives_pictures_of_the_size_it_gets(depthwise: bool) -> None:
    network = StyleNetwork(4, depthwise=depthwise)
    with torch.no_grad():
        styled = network(torch.rand(2, 3, 36, 52) * 255)
    assert styled.shape == (2, 3, 36, 52)
    assert 0 <= float(styled.min()) < float(styled.max()) <= 255


def test_the_learning_rate_falls_to_a_tenth() -> None:
    rates: list[float] = []
    training = new_training(replace(SMALL, iterations=5))
    group = training._optimiser.param_groups[0]
    training.run(None, lambda tested: None, lambda done, total: rates.append(group["lr"]))
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == pytest.approx((SMALL.learning_rate, SMALL.learning_rate / 10))


def test_every_so_many_iterations_ask_for_stability(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    losses_of = StyleTraining._losses

    def spy(self: StyleTraining, pictures: Tensor, move: tuple[int, int] | None) -> dict[str, Tensor]:
        if self.network.training:
            asked.append(move is not None)
        return losses_of(self, pictures, move)

    monkeypatch.setattr(StyleTraining, "_losses", spy)
    trained()
    assert asked == [True, False] * 3
    asked.clear()
    trained(replace(SMALL, stable_weight=0.0))
    assert asked == [False] * 6

"""Mining and loss against brute force, and against torch's own loss on the mined triplets."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'frameloom[train]'")

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tools.train.embedding_settings import Mining
from tools.train.triplets import Triplets, batch_hard, mine, semi_hard, squared_distances, triplet_loss

PEOPLE = torch.tensor([0, 1, 0, 2, 1, 0, 2, 3])


def encodings(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(len(PEOPLE), 3, generator=random, dtype=torch.float64))


def listed(triplets: Triplets) -> set[tuple[int, int, int]]:
    return set(zip(*(row.tolist() for row in triplets), strict=True))


def brute_semi_hard(distances: Tensor, people: list[int]) -> set[tuple[int, int, int]]:
    chosen = set()
    for a, p in itertools.permutations(range(len(people)), 2):
        negatives = [n for n, person in enumerate(people) if person != people[a]]
        if people[a] == people[p] and negatives:
            farther = [n for n in negatives if distances[a, n] > distances[a, p]]
            nearest = min(farther, key=lambda n: float(distances[a, n]), default=None)
            chosen.add((a, p, max(negatives, key=lambda n: float(distances[a, n])) if nearest is None else nearest))
    return chosen


def brute_batch_hard(distances: Tensor, people: list[int]) -> set[tuple[int, int, int]]:
    chosen = set()
    for a, person in enumerate(people):
        positives = [p for p, other in enumerate(people) if other == person and p != a]
        negatives = [n for n, other in enumerate(people) if other != person]
        if positives and negatives:
            farthest = max(positives, key=lambda p: float(distances[a, p]))
            chosen.add((a, farthest, min(negatives, key=lambda n: float(distances[a, n]))))
    return chosen


def test_distances_are_squared_euclidean_ones() -> None:
    points = encodings(0)
    torch.testing.assert_close(squared_distances(points), torch.cdist(points, points).square())


@pytest.mark.parametrize("seed", range(8))
def test_semi_hard_mining_is_what_brute_force_finds(seed: int) -> None:
    distances = squared_distances(encodings(seed))
    assert listed(semi_hard(distances, PEOPLE)) == brute_semi_hard(distances, PEOPLE.tolist())


@pytest.mark.parametrize("seed", range(8))
def test_batch_hard_mining_is_what_brute_force_finds(seed: int) -> None:
    distances = squared_distances(encodings(seed))
    assert listed(batch_hard(distances, PEOPLE)) == brute_batch_hard(distances, PEOPLE.tolist())


def test_the_batches_tried_hold_every_case() -> None:
    """Anchors with a farther negative and anchors without one."""
    has_farther = []
    for seed in range(8):
        distances = squared_distances(encodings(seed))
        has_farther += [bool(distances[a, n] > distances[a, p]) for a, p, n in listed(semi_hard(distances, PEOPLE))]
    assert True in has_farther
    assert False in has_farther


@pytest.mark.parametrize("mining", ["semi-hard", "batch-hard"])
@pytest.mark.parametrize("margin", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_and_its_gradient_are_those_of_torch(seed: int, margin: float, mining: Mining) -> None:
    ours, theirs = (encodings(seed).requires_grad_() for _ in range(2))
    triplets = mine(ours, PEOPLE, mining)
    loss, active = triplet_loss(ours, triplets, margin)
    reference = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda a, b: (a - b).square().sum(dim=1), margin=margin, reduction="none"
    )(*(theirs[rows] for rows in triplets))
    torch.testing.assert_close(loss, reference.mean())
    assert active == pytest.approx(float((reference > 0).double().mean()))
    loss.backward()  # type: ignore[no-untyped-call]
    reference.mean().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_known_triplet_has_the_loss_of_the_formula() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # squared distances: 2 to the positive, 4 away
    loss, active = triplet_loss(points, Triplets(*torch.tensor([[0], [1], [2]])), margin=2.5)
    assert (float(loss), active) == (0.5, 1.0)
    loss, active = triplet_loss(points, Triplets(*torch.tensor([[0], [1], [2]])), margin=1.5)
    assert (float(loss), active) == (0.0, 0.0)


@pytest.mark.parametrize("mining", ["semi-hard", "batch-hard"])
@pytest.mark.parametrize("people", [[0, 0, 0], [0, 1, 2]])
def test_a_batch_without_triplets_teaches_nothing(people: list[int], mining: Mining) -> None:
    points = encodings(0)[:3].requires_grad_()
    triplets = mine(points, torch.tensor(people), mining)
    assert len(triplets.anchors) == 0
    loss, active = triplet_loss(points, triplets, margin=0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert (float(loss.detach()), active) == (0.0, 0.0)
    assert points.grad is not None
    assert not points.grad.any()

"""How far a model is: said now and then, of the whole of its work."""

import torch
from torch import Tensor

from models.prepare.ladder import Plan
from models.prepare.progress import stretch, tell, telling
from models.prepare.windows import predict


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_where_nobody_listens_nothing_is_said_and_nothing_fails() -> None:
    tell(1, 2)
    with stretch(0, 2):
        tell(1, 2)


def test_it_is_said_once_a_second_at_most() -> None:
    heard: list[float] = []
    clock = Clock()
    with telling(heard.append, clock=clock):
        for piece in range(1, 81):
            clock.now += 0.125
            tell(piece, 80)
    assert heard == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    tell(1, 1)
    assert len(heard) == 10


def test_stretches_are_parts_of_the_whole_also_within_one_another() -> None:
    heard: list[float] = []
    clock = Clock()
    with telling(heard.append, clock=clock):
        for fold in range(2):
            with stretch(fold, 2):
                for side in range(2):
                    with stretch(side, 2):
                        clock.now += 1
                        tell(1, 2)
        clock.now += 1
        tell(1, 1)
    assert heard == [0.125, 0.375, 0.625, 0.875, 1.0]


def test_nothing_to_do_is_no_part_of_anything_and_too_much_is_all() -> None:
    heard: list[float] = []
    clock = Clock()
    with telling(heard.append, clock=clock):
        clock.now += 1
        tell(0, 0)
        with stretch(0, 0):
            tell(5, 4)
    assert heard == [1.0]


def test_a_network_over_windows_tells_after_each_batch_of_them() -> None:
    clock, heard = Clock(), []

    def network(windows: Tensor) -> Tensor:
        clock.now += 1
        return windows

    with telling(heard.append, clock=clock):
        answer = predict(
            network,
            torch.zeros((1, 8, 8, 8)),
            window=(4, 8, 8),
            reduce="logits",
            plan=Plan(batch=1, overlap=0.0),
        )
    assert answer.shape == (1, 8, 8, 8)
    assert heard == [0.5, 1.0]

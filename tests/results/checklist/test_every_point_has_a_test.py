"""The checklist is whole: a point that nobody tests any more does not go unnoticed."""

from tests.results.checklist.points import POINTS, proofs


def test_every_point_has_a_test() -> None:
    numbers = {point.number for point in POINTS}
    assert numbers == set(range(1, 56))
    assert proofs().keys() == numbers


def test_every_test_of_a_point_says_which_in_two_digits_and_a_sentence() -> None:
    assert all(1 <= number <= 55 for number in proofs())

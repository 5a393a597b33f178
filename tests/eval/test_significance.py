"""Intervals and tests beside textbook values and brute force."""

import itertools
import math
import random
import statistics

import pytest

from eval.significance import (
    Interval,
    bootstrap_interval,
    check_same_queries,
    mcnemar_p_value,
    paired_p_value,
    wilson_interval,
)
from rag_server.errors import ConfigError


def test_bootstrap_agrees_with_the_normal_interval_of_many_values() -> None:
    """Of 400 values the percentile bootstrap is within a tenth of the width of mean +- 1.96 standard errors."""
    chooser = random.Random(1)
    values = [chooser.random() for _ in range(400)]
    error = statistics.stdev(values) / math.sqrt(len(values))

    interval = bootstrap_interval(values)

    mean = statistics.fmean(values)
    assert interval.mean == pytest.approx(mean)
    assert interval.low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_bootstrap_is_wider_for_more_confidence_and_the_same_for_a_seed() -> None:
    """99 % reach further than 95 % on both sides, and a report can be reproduced."""
    values = [0.0, 0.2, 0.4, 0.9, 1.0]

    narrow, wide = bootstrap_interval(values), bootstrap_interval(values, confidence=0.99)

    assert wide.low < narrow.low < narrow.high < wide.high
    assert bootstrap_interval(values) == narrow


@pytest.mark.parametrize("values", [[0.25], [0.25, 0.25, 0.25]])
def test_bootstrap_of_equal_values_has_no_width(values: list[float]) -> None:
    """One query, or queries that are all alike, say nothing about spread."""
    assert bootstrap_interval(values) == Interval(0.25, 0.25, 0.25)


def test_wilson_interval_is_the_published_one() -> None:
    """8 of 10 give .490 to .943; none of 10 gives an upper bound of .278 (Newcombe, Statistics in Medicine 17, 1998)."""
    eight, none = wilson_interval(8, 10), wilson_interval(0, 10)

    assert (eight.mean, round(eight.low, 3), round(eight.high, 3)) == (0.8, 0.490, 0.943)
    assert (none.low, round(none.high, 3)) == (0.0, 0.278)


@pytest.mark.parametrize("interval", [lambda: bootstrap_interval([]), lambda: wilson_interval(0, 0)])
def test_interval_of_nothing_is_refused(interval: object) -> None:
    """No query is an error with a name, not a division by zero."""
    with pytest.raises(ConfigError, match="at least one"):
        interval()


def test_paired_test_counts_the_assignments_that_are_as_extreme() -> None:
    """Of few queries the p-value is the share of all 2^n swaps whose difference of means is at least the observed one."""
    a = {"1": 0.9, "2": 0.4, "3": 0.7, "4": 0.5, "5": 0.95, "6": 0.2, "7": 0.6, "8": 0.8}
    b = {"1": 0.5, "2": 0.5, "3": 0.3, "4": 0.45, "5": 0.4, "6": 0.25, "7": 0.1, "8": 0.7}
    differences = [a[id_] - b[id_] for id_ in a]
    swaps = [
        sum(sign * value for sign, value in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=8)
    ]
    extreme = sum(abs(swap) >= abs(sum(differences)) - 1e-12 for swap in swaps)

    assert paired_p_value(a, b) == pytest.approx(extreme / len(swaps))


def test_paired_test_of_many_queries_is_sampled_and_symmetric() -> None:
    """40 queries that all gain are far from chance, and the order of the runs does not matter."""
    a = {str(number): 0.5 + number / 100 for number in range(40)}
    b = {str(number): 0.5 for number in range(40)}

    assert paired_p_value(a, b) < 0.001
    assert paired_p_value(b, a) == paired_p_value(a, b)


@pytest.mark.parametrize("values", [{"1": 0.3}, {"1": 0.3, "2": 0.8}])
def test_paired_test_of_a_run_with_itself_finds_nothing(values: dict[str, float]) -> None:
    """Equal runs differ by chance for sure, also on a single query."""
    assert paired_p_value(values, values) == 1.0


def test_mcnemar_is_the_sign_test_on_the_questions_that_differ() -> None:
    """Nine questions only one run gets right, two only the other: 2 * P(X <= 2) of 11 tosses of a coin."""
    outcomes = [(True, False)] * 9 + [(False, True)] * 2 + [(True, True)] * 20 + [(False, False)] * 5
    a = {str(number): first for number, (first, _) in enumerate(outcomes)}
    b = {str(number): second for number, (_, second) in enumerate(outcomes)}

    assert mcnemar_p_value(a, b) == pytest.approx(2 * sum(math.comb(11, k) for k in range(3)) / 2**11)
    assert mcnemar_p_value(a, a) == 1.0


def test_different_queries_are_refused_by_name() -> None:
    """Runs over different queries are not compared; the message names what only one of them has."""
    with pytest.raises(ConfigError, match=r"1 \(q1\) only in the first run, 1 \(q3\) only in the second run"):
        paired_p_value({"q1": 1.0, "q2": 1.0}, {"q2": 1.0, "q3": 1.0})
    with pytest.raises(ConfigError, match=r"4 \(q1, q2, q3, \.\.\.\) only in the first run, none only in the second run"):
        mcnemar_p_value(dict.fromkeys(["q1", "q2", "q3", "q4", "q5"], True), {"q5": True})
    with pytest.raises(ConfigError, match="there is no query"):
        check_same_queries(set(), set())

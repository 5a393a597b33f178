"""Says how far a mean or a share can be trusted, and whether two runs over the same queries differ by more than chance."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rag_server.errors import ConfigError

NUM_RESAMPLES = 9_999
# How many resamples are held in memory at once.
RESAMPLES_PER_BATCH = 500
MAX_IDS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, or a share, and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(values: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of one value per query with its percentile bootstrap interval over the queries.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. A single value, or equal ones, give an interval
    without width.

    Raises:
        ConfigError: There is no value.
    """
    if not values:
        raise ConfigError("there is no query to average over; name data with at least one")
    mean = float(np.mean(values))
    if len(set(values)) == 1:
        return Interval(mean, mean, mean)
    bounds = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        batch=RESAMPLES_PER_BATCH,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high))


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Return the share of successes with Wilson's score interval.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).

    Raises:
        ConfigError: There is no trial.
    """
    if trials == 0:
        raise ConfigError("there is no question to average over; name data with at least one")
    bounds = stats.binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def paired_p_value(a: Mapping[str, float], b: Mapping[str, float], *, seed: int = 0) -> float:
    """Return the chance that the means of two runs differ as much if it were a coin's choice which value is whose.

    The two-sided paired randomisation test over the queries; Smucker, Allan and Carterette, A Comparison of Statistical
    Significance Tests for Information Retrieval Evaluation, CIKM 2007. Exact where so few queries allow, else with 9,999
    random assignments. `a` and `b` hold a value per query id.

    Raises:
        ConfigError: The runs are not over the same queries, or over none.
    """
    check_same_queries(a.keys(), b.keys())
    # Where both are equal it makes no difference whose value is whose; without those the test is more often exact.
    differences = np.array([a[query_id] - b[query_id] for query_id in sorted(a) if a[query_id] != b[query_id]])
    if len(differences) < 2:
        # Every assignment is as extreme; scipy asks for two values.
        return 1.0
    test = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=RESAMPLES_PER_BATCH,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def mcnemar_p_value(a: Mapping[str, bool], b: Mapping[str, bool]) -> float:
    """Return the chance of so uneven a split of the questions that one run answers and the other does not.

    McNemar's test in its exact form, a sign test over those questions; McNemar, Note on the Sampling Error of the Difference
    Between Correlated Proportions or Percentages, Psychometrika 12 (1947). `a` and `b` hold whether each question id came out
    right.

    Raises:
        ConfigError: The runs are not over the same questions, or over none.
    """
    check_same_queries(a.keys(), b.keys())
    only_a = sum(a[query_id] and not b[query_id] for query_id in a)
    only_b = sum(b[query_id] and not a[query_id] for query_id in a)
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)


def check_same_queries(
    a: AbstractSet[str], b: AbstractSet[str], *, names: tuple[str, str] = ("the first run", "the second run")
) -> None:
    """Refuse to compare what is over different queries; `names` says what `a` and `b` are.

    Raises:
        ConfigError: The query ids differ, or there is none; the message names the difference.
    """
    if not a and not b:
        raise ConfigError("there is no query to compare over; name data with at least one")
    if a != b:
        raise ConfigError(
            f"{names[0]} and {names[1]} are over different queries: {_some(a - b)} only in {names[0]}, {_some(b - a)} only in "
            f"{names[1]}; compare what is over the same ones"
        )


def _some(ids: AbstractSet[str]) -> str:
    if not ids:
        return "none"
    shown = ", ".join(sorted(ids)[:MAX_IDS_SHOWN])
    return f"{len(ids)} ({shown}{', ...' if len(ids) > MAX_IDS_SHOWN else ''})"

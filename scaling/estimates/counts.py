"""pass@k and related estimators from counts: n samples drawn, c of them correct, k considered."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LARGEST = 1 << 31  # count; beyond, differences of log factorials lose more than 1e-5
TABLE_LIMIT = 1 << 22  # log factorials up to here come from a table in extended precision


@lru_cache(maxsize=4)
def _log_factorial_table(bits: int) -> NDArray[Any]:
    steps = np.log(np.maximum(np.arange(1 << bits), 1).astype(np.longdouble))
    return np.cumsum(steps)


def log_factorial(x: Any) -> NDArray[Any]:
    """Return log x! of integers; extended precision keeps differences accurate to 1e-14."""
    largest = int(np.max(x, initial=0))
    if largest > TABLE_LIMIT:
        return gammaln(x + 1.0)
    return _log_factorial_table(max(largest.bit_length(), 10))[x]


def _integers(name: str, value: ArrayLike, lowest: int = 0) -> Floats:
    """Return `value` as floats after checking that they are integers; NaN means missing."""
    array = np.asarray(value, dtype=float)
    bad = ~np.isnan(array) & ~((array >= lowest) & (array == np.floor(array)) & (array <= LARGEST))
    if bad.any():
        raise ValueError(
            f"{name} holds {array[bad].flat[0]:g}; give whole numbers from {lowest} to {LARGEST}"
        )
    return array


def budgets_of(k: ArrayLike) -> Ints:
    """Return k, an integer or a list of integers of 1 or more, as an array (budgets,)."""
    budgets = _integers("k", k, lowest=1)
    if np.isnan(budgets).any() or budgets.ndim > 1:
        raise ValueError(f"k is {k!r}; give one whole number or a list of them, 1 or more")
    return np.atleast_1d(budgets.astype(np.int64))


def _draws(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> tuple[Any, Any, Any, NDArray[np.bool_]]:
    """Return n, c, k as integers (0 for NaN), and where k of n can be drawn."""
    drawn, right, draws = _integers("n", n), _integers("c", c), _integers("k", k, lowest=1)
    try:
        np.broadcast_shapes(drawn.shape, right.shape, draws.shape)
    except ValueError:
        raise ValueError(
            f"n has shape {drawn.shape}, c {right.shape}, k {draws.shape}, which do not broadcast; "
            "for many problems and budgets give n[:, None], c[:, None] and k"
        ) from None
    if (right > drawn).any():
        raise ValueError("c is larger than n; give c correct samples among n drawn, so c <= n")
    defined = (drawn >= draws) & (right >= 0)
    right = np.where(np.isnan(drawn), 0, right)
    n, c, k = (np.nan_to_num(a).astype(np.int64) for a in (drawn, right, draws))
    return n, c, k, defined


def choose_ratio(top: Any, bottom: Any, k: Any) -> Floats:
    """Return C(top, k) / C(bottom, k) for 0 <= top <= bottom; 0 where k > top."""
    first = log_factorial(top) - log_factorial(bottom)
    second = log_factorial(np.maximum(bottom - k, 0)) - log_factorial(np.maximum(top - k, 0))
    return np.where(top >= k, np.exp((first + second).astype(float)), 0.0)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Any:
    """Return the probability that some of k samples are correct, 1 - C(n-c, k) / C(n, k), unbiased.

    n: samples drawn, c: correct among them, k: budget; the three broadcast. Its mean over problems
    is coverage. NaN when k > n or a count is NaN, also for c = 0. ValueError when c > n, or a count
    is negative or fractional. Source: Chen et al. 2021, arXiv:2107.03374, equation 1.
    """
    drawn, right, draws, defined = _draws(n, c, k)
    return np.where(defined, 1.0 - choose_ratio(drawn - right, drawn, draws), np.nan)[()]


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: ArrayLike) -> Any:
    """Return the probability that all of k samples are correct, C(c, k) / C(n, k), unbiased.

    Shapes, NaN and errors as in `pass_at_k`. Source: Yao et al. 2024 (tau-bench), arXiv:2406.12045.
    """
    drawn, right, draws, defined = _draws(n, c, k)
    return np.where(defined, choose_ratio(right, drawn, draws), np.nan)[()]


def inverse_pass_at_k(
    n: ArrayLike, c: ArrayLike, r: int, k: ArrayLike, cap: int | None = None
) -> Any:
    """Return unbiased pass@k of problems sampled until their r-th success, or else to a cap.

    c = r: stopped by the r-th success at draw n, 1 - C(n-1-k, r-1) / C(n-1, r-1), also for k > n;
    c < r: stopped by the cap, the usual pass@k. Unbiased for every k up to the cap; give `cap` and
    larger k are NaN. Coverage only: votes and scores need complete pools. ValueError when c > r
    (leave out draws after the r-th success). Source: Girshick, Mosteller, Savage 1946.
    """
    if not 1 <= r <= LARGEST or int(r) != r or (_integers("c", c) > r).any():
        raise ValueError(f"r is {r}, c up to {np.nanmax(c):g}; give r >= 1 and c <= r")
    if cap is not None and (_integers("n", n) > cap).any():
        raise ValueError(f"n is up to {np.nanmax(n):g}, above the cap of {cap}: give the draws")
    drawn, right, draws, _ = _draws(n, c, k)
    last, left = np.maximum(drawn - 1, 0), drawn - 1 - draws
    stopped = 1.0 - choose_ratio(np.maximum(left, 0), last, int(r) - 1) * (left >= r - 1)
    value = np.where(right == r, stopped, pass_at_k(n, c, k))
    return np.where(draws > (np.inf if cap is None else cap), np.nan, value)[()]

"""Laws: derivatives, units, and distributions against independent calculations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import betaln
from scipy.stats import betabinom, binom

from scaling.fits import fit
from scaling.fits.functions import LOGITS, weigh
from scaling.fits.laws import LAWS, decades, spread
from scaling.fits.minimise import likelihood

K = np.array([1.0, 2.0, 7.0, 40.0, 300.0])
TWO = (np.array([1e7, 3e8, 2e9, 5e9]), np.array([2e8, 6e9, 1e10, 9e8]))
RATIO = (np.array([1e17, 3e18, 2e19]), np.array([5.0, 20.0, 320.0]))
COMPUTE = (np.array([1e12, 1e13, 1e14]), np.array([1e7, 1e9, 1e10]))
PLACES = {  # law -> axes and parameters where it is neither flat nor saturated
    "power": (K, [0.2, 0.15]),
    "power_floor": (K, [-0.6, -0.5, 0.9]),
    "log_line": (K, [0.1, 0.3]),
    "exp_power": (K, [-2.08, -0.44]),
    "sigmoid": (K, [0.05, 0.9, 1.2, 2.5]),
    "bnsl": (K, [0.2, 2.0, 0.3, 0.5, 30.0, 0.3]),
    "saturating_majority": (K, [0.3, 0.9, 5.0]),
    "chinchilla": (TWO, [1.8, 480.0, 2000.0, 0.35, 0.37]),
    "over_training": (RATIO, [1.5, 141.0, 190.0, 0.121]),
    "beta_binomial": (K, [0.4, 3.0]),
    "beta_binomial_zero": (K, [0.4, 3.0, 0.2]),
    "kumaraswamy": (K, [0.4, 3.0]),
    "kumaraswamy_zero": (K, [0.4, 3.0, 0.2]),
    "plane_logit": (COMPUTE, [-22.0, 1.1, 0.9]),
    "plane_probit": (COMPUTE, [-22.0, 1.1, 0.9]),
    "plane_loglog": (COMPUTE, [-22.0, 1.1, 0.9]),
    "jones": (COMPUTE, [-22.0, 1.1, 0.9, 1.0]),
    "item_response": ((COMPUTE[0] / 1e13, COMPUTE[1] / 1e9), [-1.0, 1.5, 2.0]),
    "additive": (COMPUTE, [0.9, 200.0, 20.0, 0.2, 0.2]),
    "emergence": ((*COMPUTE[:1], COMPUTE[1] / 1e9, COMPUTE[0] ** 0.5), [0.5, 9.9, 1.2, 0.5, 3.0]),
}


def test_public_names_and_their_parameters_are_as_documented() -> None:
    names = {
        "power": ("a", "b"),
        "power_floor": ("a", "b", "floor"),
        "exp_power": ("a", "b"),
        "sigmoid": ("lower", "upper", "midpoint", "slope"),
        "beta_binomial": ("alpha", "beta"),
        "kumaraswamy": ("a", "b"),
        "chinchilla": ("E", "A", "B", "alpha", "beta"),
    }
    assert {name: LAWS[name].params for name in names} == names
    assert {"bnsl", "saturating_majority", "over_training"} <= set(LAWS)
    assert set(PLACES) == set(LAWS), "a law without a place below is a law without a test"


@pytest.mark.parametrize("name", LAWS)
def test_derivatives_agree_with_differences(name: str) -> None:
    law, (x, p) = LAWS[name], PLACES[name]
    axes, z = (x if isinstance(x, tuple) else (x,)), law.to_unconstrained(np.array(p))
    value, slopes = law.terms(axes, z)
    assert np.isfinite(value).all()
    for i in range(len(z)):
        step = 1e-6 * max(abs(z[i]), 1.0) * np.eye(len(z))[i]
        difference = (law.terms(axes, z + step)[0] - law.terms(axes, z - step)[0]) / 2 / step[i]
        scale = np.abs(difference).max() + 1e-6
        np.testing.assert_allclose(slopes[:, i], difference, rtol=2e-5, atol=2e-6 * scale)


@pytest.mark.parametrize("name", [name for name, law in LAWS.items() if law.rescale])
def test_a_change_of_unit_changes_parameters_and_not_predictions(name: str) -> None:
    law, (x, p) = LAWS[name], PLACES[name]
    axes = x if isinstance(x, tuple) else (x,)
    units = [1e3, 7.0][: len(axes)]
    assert law.rescale is not None
    moved = law.rescale(np.array(p), units)
    rescaled = tuple(axis * unit for axis, unit in zip(axes, units, strict=True))
    before = law.predict(x, np.array(p))
    after = law.predict(rescaled if len(axes) > 1 else rescaled[0], moved)
    np.testing.assert_allclose(after, before, rtol=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(0.05, 2.0), (0.5, 2.0), (3.0, 0.3), (40.0, 90.0)])
def test_beta_binomial_coverage_is_the_closed_form(alpha: float, beta: float) -> None:
    k = np.array([1.0, 3.0, 50.0, 1e4, 1e7])
    exact = 1 - np.exp(betaln(alpha, beta + k) - betaln(alpha, beta))
    ours = LAWS["beta_binomial"].predict(k, np.array([alpha, beta]))
    np.testing.assert_allclose(ours, exact, atol=3e-6)  # trapezoid ends


@pytest.mark.parametrize(("a", "b"), [(0.2, 1.5), (0.7, 4.0), (2.0, 0.5)])
def test_kumaraswamy_coverage_is_the_integral_over_its_quantiles(a: float, b: float) -> None:
    for k in (1, 10, 300):
        exact, _ = quad(
            lambda u, k=k: 1 - (1 - (1 - u ** (1 / b)) ** (1 / a)) ** k, 0, 1, limit=500
        )
        ours = LAWS["kumaraswamy"].predict(float(k), np.array([a, b]))
        assert float(ours[0]) == pytest.approx(exact, abs=2e-5)


@pytest.mark.parametrize("p", [[1e-3, 0.13], [0.05, 5.0], [0.6, 3.0], [3.0, 0.2]])
@pytest.mark.parametrize("law", ["beta_binomial", "kumaraswamy"])
def test_a_distribution_weighs_one_however_hard_its_problems(law: str, p: list[float]) -> None:
    """Story: Kumaraswamy's tail below the grid was taken for exponential. At a = .0001 its mass was
    24, and fits to counts with zeros ran there: intervals of kumaraswamy_zero held 60 % of plants.
    """
    density = LAWS[law].density
    assert density is not None
    mass, slopes = weigh(density, LOGITS, *np.array(p)[:, None])
    assert mass.sum() == pytest.approx(1, abs=3e-4)
    for slope, size in zip(slopes, p, strict=True):
        assert slope.sum() * size == pytest.approx(0, abs=1e-3)


def test_impossible_problems_scale_coverage() -> None:
    plain = LAWS["beta_binomial"].predict(K, np.array([0.4, 3.0]))
    some = LAWS["beta_binomial_zero"].predict(K, np.array([0.4, 3.0, 0.25]))
    np.testing.assert_allclose(some, 0.75 * plain, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 30, 10_000])
def test_the_likelihood_of_counts_is_scipys_beta_binomial(n: int) -> None:
    c = np.unique([0, 1, n // 3, n - 1, n]).astype(float)
    p = np.array([[0.3, 2.0]])
    objective = likelihood(
        LAWS["beta_binomial"], np.full(len(c), float(n)), c, np.ones((1, len(c)))
    )
    ours = objective(np.log(p), np.zeros(1, int))[0][0]
    with np.errstate(divide="ignore"):
        choose = binom(n, 0.5).logpmf(c) + n * np.log(2)  # the constant that ours leaves out
    exact = -(betabinom(n, 0.3, 2.0).logpmf(c) - choose).sum()
    assert ours == pytest.approx(exact, rel=1e-6)


def test_saturating_majority_follows_votes_between_two_answers() -> None:
    """Problems with P(right answer) ~ Beta(4, 3): majority@k for odd k is a binomial tail."""
    p = np.random.default_rng(0).beta(4, 3, 4000)
    k = np.array([1, 3, 7, 15, 31, 63, 127, 255])
    accuracy = np.array([binom.sf(size // 2, size, p).mean() for size in k])
    fitted = fit("saturating_majority", k.astype(float), accuracy, bootstrap=0)
    assert fitted.rmse < 0.003
    assert fitted.params["ceiling"] == pytest.approx((p > 0.5).mean(), abs=0.01)


@pytest.mark.parametrize(("law", "x", "names"), [("chinchilla", K, "2 axes, .*got 1"),
                                                 ("power", (K, K), "1 axes, .*got 2")])  # fmt: skip
def test_the_wrong_number_of_axes_is_refused(law: str, x: Any, names: str) -> None:
    with pytest.raises(ValueError, match=f"{law} takes {names}"):
        LAWS[law].predict(x, np.ones(len(LAWS[law].params)))


def test_starting_values_are_even_in_logarithms() -> None:
    np.testing.assert_allclose(spread(-0.02, -2.0, 3), [-0.02, -0.2, -2.0])
    np.testing.assert_allclose(decades(np.array([10.0, 1000.0]), 0.5, 5), [0, 1, 2, 3, 4])
    for name in ("beta_binomial_zero", "kumaraswamy"):
        grid = LAWS[name].search(())
        for parameter in LAWS[name].params[:2]:
            np.testing.assert_allclose(grid[parameter], [0.02, 0.2, 2, 20])


def test_limits_are_unconstrained_values_of_the_bounds() -> None:
    free, logs = LAWS["power"].limits(), LAWS["chinchilla"].limits()
    assert (free[0].tolist(), free[1].tolist()) == ([-np.inf] * 2, [np.inf] * 2)
    np.testing.assert_allclose(logs[0], [*np.log([1e-6, 1e-300, 1e-300]), 0, 0])
    assert logs[1].tolist() == [np.inf] * 3 + [3, 3]


def test_an_atom_of_impossible_problems_takes_its_share_of_mass_and_slopes() -> None:
    density, p = LAWS["beta_binomial"].density, [0.4, 3.0]
    assert density is not None
    plain, slopes = weigh(density, LOGITS, *np.array(p)[:, None])
    mass, parts = weigh(density, LOGITS, *np.array([*p, 0.25])[:, None])
    atom = np.eye(len(plain))[0]
    np.testing.assert_allclose(mass, 0.75 * plain + 0.25 * atom, rtol=1e-12)
    np.testing.assert_allclose(parts[2], atom - plain, rtol=1e-12)
    np.testing.assert_allclose(parts[:2], 0.75 * np.array(slopes), rtol=1e-12)

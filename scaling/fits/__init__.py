"""Fitting laws to curves: `fit`, and `forecast` and `tournament` on held-out budgets."""

from __future__ import annotations

from scaling.fits.fitting import fit
from scaling.fits.forecasts import forecast, printable, score, tournament
from scaling.fits.laws import LAWS

__all__ = ["LAWS", "fit", "forecast", "printable", "score", "tournament"]

"""Fitting laws to curves: `fit`, and `forecast` and `tournament` on budgets held out."""

from __future__ import annotations

from scaling.fits.fitting import fit
from scaling.fits.forecast import forecast, score, tournament

__all__ = ["fit", "forecast", "score", "tournament"]

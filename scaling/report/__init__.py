"""Reports on runs, whether they are up to date, and leaderboards. No torch."""

from __future__ import annotations

from scaling.report.check import differences, stale
from scaling.report.leaderboard import leaderboard, read_prices
from scaling.report.writing import write

__all__ = ["differences", "leaderboard", "read_prices", "stale", "write"]

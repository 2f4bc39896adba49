"""Figures of runs: the gallery, the explorer and the viewer. No torch."""

from __future__ import annotations

from scaling.figures.gallery import FIGURES, draw_all
from scaling.figures.plane import joint_points, plane_fit, train_curve

__all__ = ["FIGURES", "draw_all", "joint_points", "plane_fit", "train_curve"]

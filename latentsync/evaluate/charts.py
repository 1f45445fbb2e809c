"""Figures as pictures, by matplotlib without its process-wide state."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 128  # a power of two, so that sizes in pixels come out exactly
GREY, GRID = "#6e7480", "#e4e7ec"


def new_figure(width: int, height: int, title: str) -> "Figure":
    """An empty figure of this size in pixels."""
    from matplotlib.figure import Figure

    figure = Figure((width / DPI, height / DPI), dpi=DPI, layout="constrained")
    # File names may have dollars in them, which are no formulas.
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    return figure


def style(axes: "Axes", title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=8)
    axes.set_xlabel(x_label, loc="right", fontsize=7, color=GREY)
    axes.tick_params(labelsize=7, labelcolor=GREY, color=GRID)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def drawn(figure: "Figure") -> np.ndarray:
    """(h, w, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

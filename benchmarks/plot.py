"""Plots: webhooks a second and the 99th percentile, by the number of connections."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.load import Measurement


def draw(results: dict[int, dict[str, list[Measurement]]], file: Path) -> None:
    """Write an SVG with two charts, a line for each server."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    charts = figure.subplots(1, 2)
    names = list(next(iter(results.values())))
    for chart, title, measure, scale in (
        (charts[0], "webhooks a second", "rate", 1.0),
        (charts[1], "99th percentile, ms", "p99", 1e3),
    ):
        for name in names:
            values = [
                statistics.median(getattr(run, measure) for run in by_name[name]) * scale
                for by_name in results.values()
            ]
            chart.plot(list(results), values, marker="o", label=name)
        chart.set(title=title, xlabel="connections", xscale="log", yscale="log")
        chart.set_xticks(list(results), [str(connections) for connections in results])
        chart.grid(visible=True, alpha=0.3)
    charts[0].legend(fontsize="small")
    figure.savefig(file, format="svg", metadata={"Date": None})


def draw_growth(lines: Mapping[str, Sequence[tuple[int, float]]], file: Path) -> None:
    """Write an SVG: the cost of a webhook in µs, by the number of known people."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    chart = figure.subplots()
    for name, points in lines.items():
        chart.plot(*zip(*points, strict=True), marker="o", label=name)
    chart.set(title="µs a webhook", xlabel="people known", xscale="log")
    chart.set_ylim(bottom=0)
    chart.grid(visible=True, alpha=0.3)
    chart.legend(fontsize="small")
    figure.savefig(file, format="svg", metadata={"Date": None})

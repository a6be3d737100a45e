#!/usr/bin/env python3
"""Draws target/bench/*.json as docs/benchmarks.svg and docs/push.svg. Needs matplotlib."""

import json
import pathlib

import matplotlib

matplotlib.use("svg")
# The same figures give the same file.
matplotlib.rcParams.update({"svg.hashsalt": "imgforge", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9})
from matplotlib import pyplot  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS, GOAL = "#1f6f5c", "#b3541e"


def save(figure, name):
    figure.savefig(ROOT / "docs" / name, bbox_inches="tight", metadata={"Date": None, "Creator": None})


def ratios(measured):
    """Medians with least and most, and the goal of each, all as imgforge ÷ the other."""
    rows = []
    for figures in measured:
        where = "" if figures["storage"] == "disk" else " (registry in memory)"
        rows += [(work + where, row) for work, row in figures["works"].items()]
    figure, axes = pyplot.subplots(figsize=(8, 0.34 * len(rows) + 1))
    for place, (_, row) in enumerate(rows):
        least, most = row["ratio, min and max"]
        axes.plot([least, most], [place, place], color=OURS, linewidth=2, alpha=0.45)
        axes.plot([row["ratio"]], [place], "o", color=OURS, label="imgforge ÷ the other: median, least and most")
        if "goal" in row:
            axes.plot([row["goal"]], [place], "|", color=GOAL, markersize=12, markeredgewidth=2, label="goal")
    axes.set_yticks(range(len(rows)), [work for work, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xticks([0.001, 0.01, 0.1, 0.5, 1, 2], ["0.001", "0.01", "0.1", "0.5", "1", "2"])
    axes.minorticks_off()
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title("Time, as a ratio: left of 1 imgforge is faster", loc="left")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
    axes.legend(handles.values(), handles.keys(), loc="lower left", frameon=False)
    for side in ["top", "right"]:
        axes.spines[side].set_visible(False)
    save(figure, "benchmarks.svg")


def push(figures):
    """Seconds of each tool for each layer."""
    works = figures["works"]
    figure, panels = pyplot.subplots(1, len(works), figsize=(8, 2.2), squeeze=False)
    for axes, (work, tools) in zip(panels[0], works.items()):
        names = list(tools)
        seconds = [tools[name][0] for name in names]
        bars = axes.barh(names, seconds, color=[OURS if name == "imgforge" else "#b9c4c1" for name in names])
        axes.bar_label(bars, [f"{value:.2f} s" for value in seconds], padding=3)
        axes.invert_yaxis()
        axes.set_xlim(0, max(seconds) * 1.25)
        axes.set_title(work, loc="left")
        for side in ["top", "right"]:
            axes.spines[side].set_visible(False)
    figure.tight_layout()
    save(figure, "push.svg")


def main():
    found = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "target/bench").glob("*.json"))}
    order = ["rotate-disk", "rotate-memory", "direct-disk", "direct-memory", "overhead"]
    measured = [found[name] for name in order if name in found]
    if measured:
        ratios(measured)
    if "push" in found:
        push(found["push"])
    if not found:
        raise SystemExit("nothing was measured yet: make bench")


if __name__ == "__main__":
    main()

"""Draw a graph of rules from Snakemake's dot text, in layers, without graphviz."""

from __future__ import annotations

import itertools
import re

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from video_vae.report.style import PANEL_WIDTH, colour, drawing, new_figure

_NODE = re.compile(r'^\s*"?(\w+)"?\s*\[.*?label\s*=\s*"((?:[^"\\]|\\.)*)"')
_EDGE = re.compile(r'^\s*"?(\w+)"?\s*->\s*"?(\w+)"?')
_NODE_WIDTH, _NODE_HEIGHT = 1.28, 0.27
_COLUMN, _LAYER = 1.42, 0.55
_SWEEPS = 12


SETTINGS_RULE = "write_settings"


def parse_dot(text: str) -> nx.DiGraph[str]:
    """Read nodes (with their `label`) and edges of `snakemake --rulegraph`; other lines, as of a log, are skipped.

    An edge leads from what is needed to what needs it. The rule that writes the settings of every other one is left
    out: it would cover the picture.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    edges = []
    for line in text.splitlines():
        edge, node = _EDGE.match(line), _NODE.match(line)
        if edge:
            edges.append((edge[1], edge[2]))
        elif node and (label := node[2].split("\\n")[0]) != SETTINGS_RULE:
            graph.add_node(node[1], label=label)
    graph.add_edges_from(sorted((a, b) for a, b in edges if a in graph and b in graph and a != b))
    return graph


def reduced(graph: nx.DiGraph[str]) -> nx.DiGraph[str]:
    """Leave out edges that a longer way implies, so that the drawing stays readable."""
    kept = nx.transitive_reduction(graph)
    kept.add_nodes_from(graph.nodes(data=True))
    return kept


def layers(graph: nx.DiGraph[str]) -> dict[str, int]:
    """Give each node the layer below everything that it needs."""
    depth = {node: layer for layer, nodes in enumerate(nx.topological_generations(graph)) for node in nodes}
    for node in graph:
        # a source is drawn just above what needs it, not at the top
        if graph.out_degree(node) and not graph.in_degree(node):
            depth[node] = min(depth[following] for following in graph.successors(node)) - 1
    return depth


def positions(graph: nx.DiGraph[str]) -> dict[str, tuple[float, int]]:
    """Place nodes: x in columns, y as layer; long edges get bends (named `first>second>layer`) to go round nodes."""
    depth = layers(graph)
    chains = _with_bends(graph, depth)
    labels = dict(graph.nodes(data="label"))
    rows: dict[int, list[str]] = {}
    for node in sorted(depth, key=lambda name: (labels.get(name, name), name)):
        rows.setdefault(depth[node], []).append(node)
    neighbours: dict[str, list[str]] = {node: [] for node in depth}
    for first, second in chains:
        neighbours[first].append(second)
        neighbours[second].append(first)
    x = {node: index - (len(row) - 1) / 2 for row in rows.values() for index, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        order = sorted(rows, reverse=bool(sweep % 2))
        for layer in order:
            before = [n for n in rows if (n > layer if sweep % 2 else n < layer)]
            near = {node: [x[n] for n in neighbours[node] if depth[n] in before] for node in rows[layer]}
            wanted = {node: _mean(places, x[node]) for node, places in near.items()}
            _spread(rows[layer], wanted, x)
    return {node: (x[node], depth[node]) for node in depth}


def _with_bends(graph: nx.DiGraph[str], depth: dict[str, int]) -> list[tuple[str, str]]:
    chains: list[tuple[str, str]] = []
    for first, second in graph.edges:
        previous = first
        for layer in range(depth[first] + 1, depth[second]):
            bend = f"{first}>{second}>{layer}"
            depth[bend] = layer
            chains.append((previous, bend))
            previous = bend
        chains.append((previous, second))
    return chains


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(row: list[str], wanted: dict[str, float], x: dict[str, float]) -> None:
    """Put a layer's nodes in the order of their wanted places, as near to these as a column's distance allows."""
    row.sort(key=lambda node: wanted[node])
    space = [_space(a, b) for a, b in itertools.pairwise(row)]
    offsets = [0.0]
    for step in space:
        offsets.append(offsets[-1] + step)
    # least squares under the ordering: pool neighbours that would overlap
    blocks: list[list[float]] = []
    for node, offset in zip(row, offsets, strict=True):
        blocks.append([wanted[node] - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, count = blocks.pop()
            before, weight = blocks[-1]
            blocks[-1] = [(before * weight + value * count) / (weight + count), weight + count]
    places = [value for value, count in blocks for _ in range(int(count))]
    for node, offset, place in zip(row, offsets, places, strict=True):
        x[node] = place + offset


def _space(first: str, second: str) -> float:
    bends = (">" in first) + (">" in second)
    return (1.0, 0.62, 0.25)[bends]


def draw_graph(graph: nx.DiGraph[str]) -> Figure:
    """Draw the rules, what is needed above what needs it."""
    graph = reduced(graph)
    places = positions(graph)
    columns = [x for x, _ in places.values()] or [0.0]
    depth = max((layer for _, layer in places.values()), default=0)
    left, right = min(columns) * _COLUMN - _NODE_WIDTH / 2, max(columns) * _COLUMN + _NODE_WIDTH / 2
    with drawing():
        figure = new_figure(depth * _LAYER + _NODE_HEIGHT + 0.2, max(PANEL_WIDTH, right - left + 0.2))
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        middle, half = (left + right) / 2, figure.get_figwidth() / 2
        edge = _NODE_HEIGHT / 2 + 0.1
        axes.set(xlim=(middle - half, middle + half), ylim=(depth * _LAYER + edge, -edge))
        points = {node: (x * _COLUMN, layer * _LAYER) for node, (x, layer) in places.items()}
        for first, second in graph.edges:
            _draw_edge(axes, _way(first, second, points))
        for node, label in graph.nodes(data="label"):
            _draw_node(axes, points[node], label)
    return figure


def _way(first: str, second: str, points: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    bends = [f"{first}>{second}>{layer}" for layer in range(len(points))]
    inner = sorted((points[bend] for bend in bends if bend in points), key=lambda point: point[1])
    start, end = points[first], points[second]
    return [(start[0], start[1] + _NODE_HEIGHT / 2), *inner, (end[0], end[1] - _NODE_HEIGHT / 2 - 0.04)]


def _draw_edge(axes: Axes, way: list[tuple[float, float]]) -> None:
    vertices, codes = [way[0]], [Path.MOVETO]
    for (x0, y0), (x1, y1) in itertools.pairwise(way):
        bend = (y1 - y0) / 2
        vertices += [(x0, y0 + bend), (x1, y1 - bend), (x1, y1)]
        codes += [Path.CURVE4] * 3
    axes.add_patch(
        FancyArrowPatch(
            path=Path(vertices, codes),
            arrowstyle="-|>,head_length=2.4,head_width=1.5",
            edgecolor=colour("muted"),
            lw=0.8,
            capstyle="round",
            facecolor=colour("muted"),
        )
    )


def _draw_node(axes: Axes, place: tuple[float, float], label: str) -> None:
    box = FancyBboxPatch(
        (place[0] - _NODE_WIDTH / 2 + 0.06, place[1] - _NODE_HEIGHT / 2 + 0.06),
        _NODE_WIDTH - 0.12,
        _NODE_HEIGHT - 0.12,
        boxstyle="round,pad=0.06,rounding_size=0.07",
        facecolor=colour("panel"),
        edgecolor=colour("muted"),
        lw=0.7,
    )
    axes.add_patch(box)
    axes.text(*place, label, ha="center", va="center", fontsize=7)

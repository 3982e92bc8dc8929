"""Plots as SVG that take the colours of their page, by CSS variables: light or dark."""

import html
import io
import re

from samples import number, summary

# What matplotlib is told, and what stands in the SVG instead.
INK, LINE = "#010203", "#020304"
SERIES = {"trap": "#0a0b01", "future": "#0a0b02", "awaiter": "#0a0b03", "ours": "#0a0b04",
          "peer": "#0a0b05"}
MARKERS = {"trap": "o", "future": "s", "awaiter": "D", "ours": "o", "peer": "o"}
COLOURS = {INK: "currentColor", LINE: "var(--line)",
           **{colour: f"var(--{name})" for name, colour in SERIES.items()}}

PALETTE = """
:root { --ink: #1c2530; --paper: #ffffff; --line: #c9d1da; --soft: #5a6675; --box: #f4f6f8;
  --trap: #1d63d8; --future: #c2600c; --awaiter: #17805a; --ours: #1d63d8; --peer: #8a96a5;
  --good: #17703f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe5ec; --paper: #12171d; --line: #3a4550; --soft: #9aa7b5; --box: #1b222a;
    --trap: #6ea8ff; --future: #f2a154; --awaiter: #4cc394; --ours: #6ea8ff; --peer: #6d7a89;
    --good: #5fd08f; --bad: #ff8a80; }
}
""".strip()

WIDTH, ROW, EDGES = 400, 26, 74  # points


def new_figure(rows):
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "report", "font.size": 11,
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.edgecolor": LINE, "axes.linewidth": 0.8, "grid.color": LINE, "grid.linewidth": 0.6})
    height = rows * ROW + EDGES
    figure, axes = pyplot.subplots(figsize=(WIDTH / 72, height / 72))
    # Room for labels on the left; edges of a fixed height, however many rows.
    figure.subplots_adjust(left=0.36, right=0.96, top=1 - 30 / height, bottom=44 / height)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=3)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return pyplot, figure, axes


def label_rows(axes, labels):
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def series_of(rows):
    return list(dict.fromkeys(name for _, of in rows for name in of))


def draw_dots(axes, rows):
    """Medians with their quartiles, on a logarithmic axis."""
    from matplotlib import ticker
    names = series_of(rows)
    offsets = {name: (i - (len(names) - 1) / 2) * 0.22 for i, name in enumerate(names)}
    values = []
    for name in names:
        points = [(y + offsets[name], summary(of[name])) for y, (_, of) in enumerate(rows)
                  if of.get(name)]
        values += [value for _, of in points for value in (of.low, of.high)]
        axes.hlines([y for y, _ in points], [of.low for _, of in points],
                    [of.high for _, of in points], color=SERIES[name], linewidth=2.5)
        axes.plot([of.median for _, of in points], [y for y, _ in points], MARKERS[name],
                  color=SERIES[name], markersize=6, label=name)
    axes.set_xscale("log")
    low, high = min(values), max(values)
    axes.set_xlim(low / 1.5, high * 1.5)
    steps = (1,) if high / low > 200 else (1, 2, 5)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps) if high / low > 3
                                 else ticker.MaxNLocator(4))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: number(value)
                                                        if value < 10 else f"{value:,.0f}"))
    if len(names) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.58, 1.0), ncols=len(names),
                    frameon=False, handletextpad=0.2, columnspacing=1.2, borderaxespad=0)


def draw_bars(axes, rows):
    from matplotlib import ticker
    largest = max(summary(values).median for _, of in rows for values in of.values())
    for y, (_, of) in enumerate(rows):
        (name, values), = of.items()
        value = summary(values)
        axes.barh(y, value.median, height=0.62, color=SERIES.get(name, SERIES["peer"]))
        axes.hlines(y, value.low, value.high, color=INK, linewidth=1.2)
        axes.text(max(value.median, value.high) + largest * 0.015, y, number(value.median),
                  va="center")
    axes.set_xlim(0, largest * 1.24)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))


def coloured(svg):
    for colour, instead in COLOURS.items():
        svg = svg.replace(colour, instead)
    return svg


def embeddable(svg, plot):
    """Without header and sizes, and with ids of its own: several stand in one page."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", svg)
    svg = re.sub(r' id="', f' id="{plot.name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{plot.name}-", svg)
    view = re.search(r'viewBox="([^"]*)"', svg)[1]
    title = html.escape(f"{plot.title} ({plot.unit})")
    return re.sub(r"<svg[^>]*>", f'<svg xmlns="http://www.w3.org/2000/svg" '
                  f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{view}" role="img" '
                  f'aria-label="{title}"><title>{title}</title>', coloured(svg), count=1)


def draw(plot):
    """The SVG element, to stand in a page that has PALETTE."""
    pyplot, figure, axes = new_figure(len(plot.rows))
    label_rows(axes, [label for label, _ in plot.rows])
    (draw_dots if plot.kind == "dots" else draw_bars)(axes, plot.rows)
    axes.set_xlabel(plot.unit)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    return embeddable(text.getvalue(), plot)


def alone(svg):
    """The same as a file of its own."""
    style = f"<style>{PALETTE} svg {{ color: var(--ink); background: var(--paper) }}</style>"
    return svg.replace("</title>", f"</title>{style}", 1) + "\n"

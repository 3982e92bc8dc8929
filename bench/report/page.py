"""The report as one HTML file: no network, no script, light and dark, wide and narrow."""

import html
import os
import re

import plots

NUMBER = re.compile(r"^(<?[\d.,]+( ±<?[\d.,]+)?|–|\?|)( B)?$")
GOOD = {"reached": "good", "missed": "bad", "better": "better", "worse": "worse"}
LONG = 34  # characters, from which a cell may be broken


def escape(text):
    return html.escape(text, quote=False)


def is_text(table, column):
    return column == 0 or any(not NUMBER.match(row[column]) for row in table.rows)


def table_head(table, textual):
    return "".join(f'<th scope="col"{" class=text" if text else ""}>{escape(title)}</th>'
                   for title, text in zip(table.columns, textual))


def table_cell(cell, text):
    classes = [GOOD.get(cell, ""), "text" if text else "", "long" if len(cell) > LONG else ""]
    shown = " ".join(filter(None, classes))
    return f'<td{f" class={chr(34)}{shown}{chr(34)}" if shown else ""}>{escape(cell)}</td>'


def table_body(table, textual):
    before = None
    for row in table.rows:
        # A program's name is said once; it stays there for those who search or copy.
        same = " class=same" if row[0] == before else ""
        before = row[0]
        yield f"<tr{same}>" + "".join(table_cell(cell, text)
                                      for cell, text in zip(row, textual)) + "</tr>"


def table_html(table):
    textual = [is_text(table, column) for column in range(len(table.columns))]
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (f'<div class="wide" tabindex="0"><table>{caption}'
            f"<thead><tr>{table_head(table, textual)}</tr></thead>\n<tbody>"
            + "\n".join(table_body(table, textual)) + "</tbody></table></div>")


def plots_html(section, drawn):
    if not section.plots:
        return ""
    return '<div class="plots">' + "\n".join(
        f'<figure id="plot-{plot.name}"><figcaption>{escape(plot.title)}</figcaption>'
        f"{drawn[plot.name]}</figure>" for plot in section.plots) + "</div>"


def commands_html(section):
    if not section.commands:
        return ""
    commands = "\n".join(escape(command) for command in section.commands)
    return f"<details><summary>Commands that repeat it</summary><pre>{commands}</pre></details>"


def section_html(section, drawn):
    findings = "".join(f"<li>{escape(finding)}</li>" for finding in section.findings)
    return "\n".join(filter(None, [
        f'<section id="{section.key}"><h2>{escape(section.title)}</h2>',
        *(f"<p>{escape(text)}</p>" for text in section.texts),
        *(f"<p><strong>{escape(term.capitalize())}.</strong> {escape(text)}</p>"
          for term, text in section.terms),
        plots_html(section, drawn),
        f'<ul class="findings">{findings}</ul>' if findings else "",
        *(table_html(table) for table in section.tables),
        commands_html(section), "</section>"]))


def build(title, under, sections, drawn):
    """The page. `drawn` holds the SVG of each plot by its name."""
    with open(os.path.join(os.path.dirname(__file__), "page.css"), encoding="utf-8") as file:
        style = plots.PALETTE + "\n" + file.read()
    links = "".join(f'<a href="#{section.key}">{escape(section.title)}</a>'
                    for section in sections)
    body = "\n".join(section_html(section, drawn) for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="under">{escape(under)}</p>
<nav>{links}</nav>
{body}
</body>
</html>
"""

"""The report as Markdown, with the plots as files beside it."""


def cell(text):
    return text.replace("|", "\\|")


def table_text(table):
    lines = ["| " + " | ".join(map(cell, table.columns)) + " |",
             "| --- " + "| ---: " * (len(table.columns) - 1) + "|"]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in table.rows]
    return "\n".join(lines) + (f"\n\n{table.caption}" if table.caption else "")


def section_text(section):
    parts = [f"## {section.title}", *section.texts]
    parts += [f"**{term.capitalize()}.** {text}" for term, text in section.terms]
    parts += [f"![{plot.title}]({plot.name}.svg)" for plot in section.plots]
    parts += section.findings
    parts += [table_text(table) for table in section.tables]
    if section.commands:
        parts.append("Commands that repeat it:")
        parts.append("\n".join("    " + command for command in section.commands))
    return "\n\n".join(parts)


def build(title, under, sections):
    return "\n\n".join([f"# {title}", under, *map(section_text, sections)]) + "\n"

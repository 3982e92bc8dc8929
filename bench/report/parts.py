"""What a report is made of, before anybody has decided how it looks."""

from dataclasses import dataclass, field


@dataclass
class Table:
    columns: list
    rows: list
    caption: str = ""


@dataclass
class Plot:
    """Rows of (label, {series: samples}). `kind` is "dots", on a logarithmic axis, or "bars"."""

    name: str
    title: str
    unit: str
    kind: str
    rows: list


@dataclass
class Section:
    key: str
    title: str
    texts: list = field(default_factory=list)
    terms: list = field(default_factory=list)  # (term, what it means)
    plots: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    findings: list = field(default_factory=list)
    commands: list = field(default_factory=list)

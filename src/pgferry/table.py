"""Tables as psql prints them."""

from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Names, a line, rows; what begins with a digit or is "-" goes to the right."""
    widths = [max(len(str(r[i])) for r in [columns, *rows]) for i in range(len(columns))]
    lines = [" | ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True))]
    lines.append("-+-".join("-" * w for w in widths))
    for row in rows:
        cells = (
            v.rjust(w) if v[:1].isdigit() or v == "-" else v.ljust(w)
            for v, w in zip(row, widths, strict=True)
        )
        lines.append(" | ".join(cells))
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)

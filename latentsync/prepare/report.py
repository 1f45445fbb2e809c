"""How a run went, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HEAD = ("stage", "in", "out", "dropped", "per minute")


@dataclass(frozen=True)
class Row:
    """One stage.

    Attributes:
        entered, left: items before and after it.
        dropped: number of dropped items by reason.
        worked: items that were worked on in this run; the others were done before.
        seconds: that the work took.
    """

    stage: str
    entered: int
    left: int
    dropped: Mapping[str, int]
    worked: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        speed = f"{60 * self.worked / self.seconds:.1f}" if self.worked and self.seconds else "-"
        return self.stage, str(self.entered), str(self.left), dropped or "-", speed


@dataclass(frozen=True)
class Report:
    """The stages of a run, the number of finished clips, and where the fate of each item is written."""

    rows: tuple[Row, ...]
    clips: int
    manifest: Path

    def __str__(self) -> str:
        table = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, f"{self.clips} clips; the fate of each item is in {self.manifest}"])

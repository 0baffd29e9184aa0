"""`metrics.jsonl`: a row for whatever happened, kept in step with the state that a run resumes from."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from regard import disk


class Journal:
    """The rows of a run's log, one JSON object a line."""

    def __init__(self, folder: Path | None, step: int | None) -> None:
        """Opens a folder's journal and forgets rows after a step (None: keeps all); without a folder, writes none."""
        self.path = folder / "metrics.jsonl" if folder else None
        if self.path and step is not None:
            kept = [row for row in self.rows() if step and row.get("step", 0) <= step and row["kind"] != "result"]
            disk.write_text(self.path, "".join(disk.to_json(row) + "\n" for row in kept))

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row."""
        if self.path:
            with disk.refusing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(disk.to_json(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows; a line that a kill cut short, or that a bad byte is in, is left out."""
        out = []
        if self.path and self.path.exists():
            for line in self.path.read_bytes().splitlines():
                with suppress(ValueError):
                    out.append(json.loads(line))
        return out

"""Results as tables: in Arrow and in a notebook, and questions to Parquet files in SQL (the extra [lens])."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from regard.data.sources import arrow
from regard.disk import locate
from regard.errors import Problem
from regard.page.markup import count, escape, number, table

SHOWN = 20  # rows that a notebook shows


class Results:
    """What a study has found, as rows of a table that has the same columns in each."""

    __slots__ = ()
    rows: list[dict[str, Any]]

    def arrow(self) -> Any:
        """The rows as an Arrow table, which pandas, polars and DuckDB take as it is."""
        return arrow().Table.from_pylist(self.rows)

    def _repr_html_(self) -> str:
        """The first rows for a notebook."""
        if not self.rows:
            return "<p>No rows.</p>"
        names = list(self.rows[0])
        cells = [
            [number(value) if isinstance(value, float) else escape(value) for value in row.values()]
            for row in self.rows[:SHOWN]
        ]
        numbers = [i for i, value in enumerate(self.rows[0].values()) if isinstance(value, (int, float))]
        caption = f"{count(len(self.rows), 'row')}, of which {len(cells)} are shown; arrow() has all."
        return table([escape(name) for name in names], cells, caption=caption, numbers=numbers)


def query(path: str | Path, sql: str) -> Any:
    """What the SQL selects, as an Arrow table; the file's table is called by its stem, and `heads` if that is free.

    Raises `Problem` where the file is no Parquet or the question is wrong.
    """
    path = locate(path)
    try:
        import duckdb
    except ImportError:
        raise Problem("Questions in SQL need DuckDB: pip install 'regard[lens]'.") from None
    with duckdb.connect() as connection:
        try:
            rows = connection.read_parquet(str(path))
        except duckdb.Error as error:
            raise Problem(f"{path} is no sound Parquet file ({_first_line(error)}). Write it again.") from None
        try:
            rows.create_view("heads")
            stem = re.sub(r"\W", "_", path.stem)
            if stem.lower() != "heads":  # names in SQL are the same in small letters and in capitals
                connection.sql(f'CREATE VIEW "{stem}" AS FROM heads')
            found = connection.sql(sql)
            if found is None:
                raise Problem("The SQL selects nothing. Write a SELECT, for example: SELECT * FROM heads LIMIT 5.")
            return found.to_arrow_table()
        except duckdb.Error as error:
            raise Problem(f"{_first_line(error)}. The columns of heads are: {', '.join(rows.columns)}.") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]

"""Work on all cores: in order, by other processes when there is enough of it, and what becomes of those said."""

import os
import subprocess
import sys
from functools import partial

import pytest

from regard.data import processes
from regard.data.processes import Here, Workers
from regard.errors import Problem


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0)


def test_outcomes_are_in_order_and_work_for_this_process_waits_for_its_turn():
    done = []
    with Workers(2, cure="") as workers:
        todo = [Here(done.append, n) if n % 5 == 4 else partial(pow, n, 2) for n in range(20)]
        for place, outcome in enumerate(workers.ordered(todo)):
            assert outcome == (None if place % 5 == 4 else place**2)
            assert done == [*range(4, place + 1, 5)]
        own = os.getpid()
        assert own not in workers.ordered([os.getpid] * 3)
        assert list(workers.ordered([Here(os.getpid)])) == [own]


@pytest.mark.parametrize("reason", ["one process", "little work", "alone"])
def test_no_process_is_started_for(reason, monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 60 if reason == "little work" else 0)
    with Workers(1 if reason == "one process" else 2, cure="", alone=lambda: reason == "alone") as workers:
        assert list(workers.ordered([os.getpid] * 3)) == [os.getpid()] * 3


def test_what_work_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError), Workers(2, cure="") as workers:
        list(workers.ordered([partial(divmod, 1, 0)] * 9))


def test_a_process_that_dies_is_a_problem_with_its_cure():
    todo = [partial(pow, 2, 3), partial(os._exit, 1)]
    with (
        pytest.raises(Problem, match=r"want of memory\. Ask for fewer\."),
        Workers(2, cure="Ask for fewer.") as workers,
    ):
        list(workers.ordered(todo))


def test_a_script_that_does_not_guard_what_it_does_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from regard.data import processes\n"
        "processes.PATIENCE = 0\n"
        "with processes.Workers(2, cure='') as workers:\n"
        "    print(*workers.ordered([os.getpid]))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.splitlines()[-1].endswith(processes.UNGUARDED)

"""A corpus built by a Ray cluster of two nodes, here on one machine: the bytes that one process leaves."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command import typed

from regard.data.cluster import Cluster
from regard.data.corpora import build as making
from regard.data.corpora.plan import Plan, Source
from regard.errors import Problem

for library in ("ray", "ftfy", "mwparserfromhell", "opencc", "py3langid"):
    pytest.importorskip(library)

QUIET = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
NODES = """
import sys
from ray.cluster_utils import Cluster

room = {"num_cpus": 1, "object_store_memory": 100_000_000}
nodes = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **room})
nodes.add_node(**room)
print(nodes.address, flush=True)
sys.stdin.read()
nodes.shutdown()
"""
WORK = """
import json, os, sys, time
from pathlib import Path
import ray
from regard.data.cluster import Cluster
from regard.data.processes import Here
from regard.errors import Problem

address, folder = sys.argv[1], Path(sys.argv[2])

def meet(number, other, what):
    # Waits for another piece of work, which on nodes of one core each is done by the other node.
    (folder / f"{what}-{number}").touch()
    while not (folder / f"{what}-{other}").exists():
        time.sleep(0.01)
    return ray.get_runtime_context().get_node_id()

def lost():
    if not (folder / "once").exists():
        (folder / "once").touch()
        os._exit(1)
    return "done at last"

def wrong():
    raise Problem("This is wrong. Mend it.")

def stream(first, broken=None):
    for number in range(first, first + 4):
        yield lambda number=number: number
    yield Here(lambda: first + 4)  # on the machine that tells the stream
    yield Here(os.getpid)
    yield lambda: meet("a", "b", f"stream-{first}")
    yield lambda: meet("b", "a", f"stream-{first}")
    if broken == "there":
        yield wrong
    if broken == "here":
        wrong()
    if broken == "in vain":
        yield lambda: os._exit(1)

def told(work, folder, broken=None):
    try:
        with Cluster(address, folder) as cluster:
            if broken:
                return list(cluster.streamed([lambda: stream(0), lambda: stream(5, broken)]))
            return list(cluster.ordered([work]))
    except Problem as problem:
        return str(problem)

with Cluster(address, folder) as cluster:
    todo = [lambda number=number: number for number in range(12)]
    todo += [Here(os.getpid), lambda: meet("a", "b", "todo"), lambda: meet("b", "a", "todo"), lost]
    *order, here, one, other, last = cluster.ordered(todo)
    streamed = list(cluster.streamed([lambda: stream(0), lambda: stream(5)]))
print(json.dumps({
    "here": here == os.getpid(), "order": order, "nodes": len({one, other}),
    "streamed": [*streamed[:5], *streamed[8:13]], "streams": len({*streamed[6:8], *streamed[14:]}),
    "elsewhere told": os.getpid() not in (streamed[5], streamed[13]),
    "broken": [told(None, folder, broken) for broken in ("there", "here", "in vain")],
    "lost": last, "wrong": told(wrong, folder), "elsewhere": told(wrong, folder / "none"),
}))
"""


@pytest.fixture(scope="module")
def address():
    with subprocess.Popen(
        [sys.executable, "-c", NODES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=QUIET,
    ) as process:  # fmt: skip
        yield next(line.strip() for line in process.stdout if line[0].isdigit())
        process.stdin.close()


def test_work_is_done_on_all_nodes_in_order_and_again_where_it_was_lost(address, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WORK, address, str(tmp_path)], capture_output=True, text=True, env=QUIET, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["here"] and found["order"] == list(range(12)) and found["nodes"] == 2
    assert found["lost"] == "done at last" and found["wrong"] == "This is wrong. Mend it."
    assert found["streamed"] == list(range(10)) and found["streams"] == 2 and found["elsewhere told"]
    assert found["broken"][:2] == ["This is wrong. Mend it."] * 2
    assert found["broken"][2].startswith(
        "The cluster has lost work, and has begun it again in vain (WorkerCrashedError"
    )
    assert "share" in found["elsewhere"] and str(tmp_path / "none") in found["elsewhere"]


def test_a_web_server_is_no_head_and_that_is_said_at_once(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # as Ray's dashboard is
        threading.Thread(target=server.serve_forever).start()
        address = f"127.0.0.1:{server.server_port}"
        with pytest.raises(Problem, match=r"a web server answers there"), Cluster(address, tmp_path):
            pass
        server.shutdown()


def test_a_cluster_leaves_the_bytes_of_one_process(address, tmp_path):
    for name in "abc":
        lines = [
            f"The {name} {word} of {n} was told by {n * 7} people." for n in range(1500) for word in ("day", "year")
        ]
        (tmp_path / f"{name}.txt").write_text("\n\n".join(lines))
    (tmp_path / "plan.toml").write_text('[[source]]\nname = "a"\npath = "?.txt"\nlanguage = "en"\n')
    words = ["corpus", "build", "plan.toml", "--out", "by-nodes", "--json"]

    refused = typed(*words, "--cluster", address, "--processes", "2", cwd=tmp_path)
    assert refused.returncode == 2 and "--processes" in refused.stderr
    nowhere = typed(*words, "--cluster", "127.0.0.1:1", cwd=tmp_path)
    said = " ".join(nowhere.stderr.split())
    assert nowhere.returncode == 2 and "There is no Ray cluster at 127.0.0.1:1 ([Errno" in said
    command = [sys.executable, "-m", "regard", *words, "--cluster", address]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=QUIET, check=False)
    assert done.returncode == 0, done.stderr
    plan = Plan((Source(name="a", path="?.txt", language="en"),), folder=tmp_path)
    made = making.build(plan, tmp_path / "alone", processes=1)
    assert made["documents"] > 2000 and json.loads(done.stdout)["documents"] == made["documents"]

    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert contents(tmp_path / "by-nodes") == contents(tmp_path / "alone")

"""Downloads from a hub that runs in a thread; each caller is a process of its own, as HF_ENDPOINT is read at import."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from regard.errors import Problem
from regard.hub import model_folder

specification = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
hub_server = importlib.util.module_from_spec(specification)
sys.modules["hub_server"] = hub_server  # where dataclasses look up their annotations
specification.loader.exec_module(hub_server)
Hub, Repository, COMMIT = hub_server.Hub, hub_server.Repository, hub_server.COMMIT

WEIGHTS = random.Random(0).randbytes(1_000_000)
CONFIG = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[PAD]\n[UNK]\n", "tokenizer_config.json": b"{}"}
SENTENCE = {"modules.json": b"[]", "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}'}
UNWANTED = {"README.md": b"# BERT", ".gitattributes": b"", "onnx/model.onnx": b"o", "onnx/config.json": b"{}"}
UNWANTED |= {
    "tf_model.h5": b"t",
    "flax_model.msgpack": b"f",
    "openvino/openvino_model.bin": b"v",
    "rust_model.ot": b"r",
}
BERT = CONFIG | SENTENCE | UNWANTED | {"model.safetensors": WEIGHTS, "pytorch_model.bin": b"b" * 1000}
NEEDED = sorted([*CONFIG, *SENTENCE, "model.safetensors"])

CALLER = """
import json, sys, time
import regard.hub
from regard.errors import Problem
assert not {"huggingface_hub", "httpx2"} & set(sys.modules), "importing regard.hub must stay light"
answers = []
for function, name, options in json.loads(sys.argv[1]):
    if options.pop("disk_full", False):
        import errno, os
        import huggingface_hub.file_download
        def http_get(*args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        huggingface_hub.file_download.http_get = http_get
    start = time.monotonic()
    try:
        value = getattr(regard.hub, function)(name, **options)
        answer = {k: [str(p) for p in v] for k, v in value.items()} if isinstance(value, dict) else str(value)
    except Problem as problem:
        answer = {"problem": str(problem)}
    answers.append((answer, time.monotonic() - start))
json.dump(answers, sys.stdout)
"""


@pytest.fixture
def hub():
    with Hub(models={"google/bert": Repository(BERT)}) as running:
        yield running


@pytest.fixture
def call(tmp_path, hub):
    """Calls a function of `regard.hub` in a process whose hub is the one in the thread."""

    def caller(name, *, function="model_folder", environment=None, **options):
        return ask([(function, name, options)], hub.url, tmp_path, environment or {})[0][0]

    return caller


def ask(calls, url, tmp_path, environment):
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    inherited = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "SYSTEMROOT") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", CALLER, json.dumps(calls)],
        env=inherited | settings | {"HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_a_fresh_download_asks_for_the_needed_files_only(call, hub):
    folder = call("google/bert")
    assert hub.fetched() == NEEDED
    assert contents(folder) == {name: BERT[name] for name in NEEDED}


def test_a_second_call_downloads_nothing(call, hub):
    folder = call("google/bert")
    hub.fetched()
    assert call("google/bert") == folder
    assert hub.fetched() == []


def test_without_weights_the_tokenizer_comes_alone_and_they_can_follow(call, hub):
    folder = call("google/bert", weights=False)
    assert hub.fetched() == sorted([*CONFIG, *SENTENCE])
    assert call("google/bert", weights=False, offline=True) == folder
    assert call("google/bert") == folder
    assert hub.fetched() == ["model.safetensors"]


def test_bin_weights_are_taken_where_there_are_no_others(call, hub):
    hub.models["old"] = Repository(CONFIG | {"pytorch_model.bin": WEIGHTS, "tf_model.h5": b"t"})
    assert set(contents(call("old"))) == {*CONFIG, "pytorch_model.bin"}


def test_sharded_weights_come_with_their_index_and_without_bin(call, hub):
    shards = {"model.safetensors.index.json": b"{}", "model-00001-of-00002.safetensors": b"1"}
    shards |= {"model-00002-of-00002.safetensors": b"2"}
    hub.models["big"] = Repository(CONFIG | UNWANTED | shards | {"pytorch_model-00001-of-00001.bin": b"b"})
    assert set(contents(call("big"))) == {*CONFIG, *shards}


def test_a_legacy_name_follows_the_hub_to_the_present_one(call, hub):
    hub.renamed["bert-base"] = "google/bert"
    assert set(contents(call("bert-base"))) == set(NEEDED)


def test_a_connection_that_closes_halfway_is_resumed_in_the_same_call(call, hub):
    # The library writes in pieces of ten megabytes, so less than that is asked for again from the start.
    big = random.Random(1).randbytes(24_000_000)
    hub.models["google/bert"] = Repository(BERT | {"model.safetensors": big})
    hub.cuts["model.safetensors"] = [(12_000_000, False)]
    folder = call("google/bert")
    ranges = [r.range for r in hub.log if r.method == "GET" and r.path.endswith("model.safetensors")]
    assert ranges == [None, f"bytes={10 * 1024**2}-"]
    assert (Path(folder) / "model.safetensors").read_bytes() == big


def test_a_broken_download_says_so_and_the_next_call_fetches_what_is_missing(call, hub):
    hub.cuts["model.safetensors"] = [(500_000, True)]
    problem = call("google/bert")["problem"]
    assert "broke off" in problem and "Call again: it resumes" in problem
    assert hub.fetched() == NEEDED
    folder = call("google/bert")
    assert hub.fetched() == ["model.safetensors"]
    assert contents(folder) == {name: BERT[name] for name in NEEDED}


def test_a_partial_copy_is_not_used_offline(call, hub):
    hub.cuts["model.safetensors"] = [(500_000, True)]
    call("google/bert")
    assert call("google/bert", offline=True)["problem"].startswith("Only a part of google/bert is in the cache")


@pytest.mark.parametrize("way", ["server down", "server broken", "access withdrawn", "argument", "environment"])
def test_a_cached_model_needs_no_hub(call, hub, way):
    folder = call("google/bert")
    hub.fetched()
    hub.broken = way == "server broken"
    hub.models["google/bert"].private = way == "access withdrawn"
    if way == "server down":
        hub.__exit__()
    environment = {"HF_HUB_OFFLINE": "1"} if way == "environment" else {}
    assert call("google/bert", environment=environment, offline=way == "argument" or None) == folder
    assert hub.fetched() == []
    if way == "server down":
        hub.__enter__()


def test_a_cache_filled_by_another_tool_needs_no_hub(call, tmp_path):
    folder = Path(call("google/bert"))
    trees = folder.parent.parent / "trees"
    for file in [*trees.iterdir(), folder / "model.safetensors"]:
        file.unlink()
    problem = call("google/bert", offline=True)["problem"]
    assert problem.startswith("The cached copy of google/bert has neither model.safetensors nor")
    (folder / "pytorch_model.bin").write_bytes(b"b")
    assert call("google/bert", offline=True) == str(folder)


def test_a_network_that_swallows_packets_costs_one_time_limit(call, hub, tmp_path):
    folder = call("google/bert")
    hub.mute.set()
    calls = [("model_folder", "google/bert", {}), ("model_folder", "google/other", {})]
    answers = ask(calls, hub.url, tmp_path, {"HF_HUB_ETAG_TIMEOUT": "1"})
    assert answers[0][0] == folder
    assert "cannot be reached" in answers[1][0]["problem"]
    assert max(seconds for _, seconds in answers) < 5


def test_without_a_hub_the_answer_is_quick_and_plain(hub, tmp_path):
    hub.__exit__()
    [(answer, seconds)] = ask([("model_folder", "google/bert", {})], hub.url, tmp_path, {})
    hub.__enter__()
    assert seconds < 5
    assert f"The hub at {hub.url} cannot be reached" in answer["problem"]
    assert "not in the cache" in answer["problem"] and "name a local folder" in answer["problem"]


FAILURES = {
    "unknown": (
        "model_folder",
        "google/nothing",
        {},
        ["Nothing here is called google/nothing", "spelling", "HF_TOKEN"],
    ),
    "private": ("model_folder", "google/private", {}, ["hub shows no model of that name", "hf auth login"]),
    "gated": ("model_folder", "google/gated", {}, ["is gated", "/google/gated, then log in", "HF_TOKEN"]),
    "revision": ("model_folder", "google/bert", {"revision": "v9"}, ["no revision 'v9'", "Use main"]),
    "no config": ("model_folder", "google/data", {}, ["google/data has no config.json", "train.csv", "Name a BERT"]),
    "no weights": (
        "model_folder",
        "google/onnx",
        {},
        ["neither model.safetensors nor pytorch_model.bin", "onnx/model"],
    ),
    "bad name": ("model_folder", "what is this?", {}, ["neither a folder here nor a name", "owner/name"]),
    "offline": (
        "model_folder",
        "google/bert",
        {"offline": True},
        ["offline mode forbids", "unset HF_HUB_OFFLINE", "or regard-mini"],
    ),
    "lost file": ("model_folder", "google/lost", {}, ["The download of google/lost broke off", "Call again"]),
    "unknown set": ("data_files", "someone/nothing", {}, ["the hub shows no data set of that name"]),
    "gated set": ("data_files", "someone/gated", {}, ["is gated", "/datasets/someone/gated, then log in"]),
    "script": ("data_files", "someone/script", {}, ["loading script (script.py)", "refs/convert/parquet"]),
    "pictures": ("data_files", "someone/pictures", {}, ["no Parquet, CSV, TSV or JSON-lines file", "a.png, b.png"]),
    "subsets": ("data_files", "someone/glue", {}, ["has 2 subsets: cola, sst2", "for example someone/glue/cola."]),
    "subset": ("data_files", "someone/glue/mnli", {}, ["file in mnli", "cola/train.parquet"]),
    "full disk": ("model_folder", "google/bert", {"disk_full": True}, ["The disk is full", "hf cache ls", "HF_HOME"]),
}


class LosingFiles(dict):
    """Lists a file that cannot be fetched."""

    def __contains__(self, name):
        return name != "model.safetensors" and super().__contains__(name)


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    models = {
        "google/bert": Repository(BERT),
        "google/private": Repository(BERT, private=True),
        "google/gated": Repository(BERT, gated=True),
        "google/data": Repository({"train.csv": b"text,label\n"}),
        "google/onnx": Repository(CONFIG | UNWANTED),
        "google/lost": Repository(LosingFiles(BERT)),
    }
    datasets = {
        "someone/gated": Repository({"train.csv": b"text,label\n"}, gated=True),
        "someone/script": Repository({"script.py": b"", "README.md": b""}),
        "someone/pictures": Repository({"a.png": b"a", "b.png": b"b"}),
        "someone/glue": Repository({"cola/train.parquet": b"c", "sst2/train.parquet": b"s"}),
    }
    with Hub(models=models, datasets=datasets) as hub:
        calls = [(function, name, options) for function, name, options, _ in FAILURES.values()]
        answers = ask(calls, hub.url, tmp_path_factory.mktemp("failures"), {})
        return dict(zip(FAILURES, answers, strict=True))


@pytest.mark.parametrize("case", FAILURES)
def test_every_failure_is_one_paragraph_of_cause_and_cure(failures, case):
    answer, seconds = failures[case]
    for words in FAILURES[case][-1]:
        assert words in answer["problem"]
    assert "\n" not in answer["problem"]
    assert seconds < 5


def test_a_cache_that_cannot_be_written_is_named(call, tmp_path):
    (tmp_path / "home").write_text("a file where the cache's folder should be")
    problem = call("google/bert")["problem"]
    assert "cannot be stored in the cache" in problem and "HF_HOME" in problem


def test_an_endpoint_that_is_no_hub_is_named(call, hub):
    problem = call("google/bert", environment={"HF_ENDPOINT": f"{hub.url}/elsewhere"})["problem"]
    assert "gave no usable answer" in problem and "HF_ENDPOINT" in problem


def test_a_wrong_token_is_named(call):
    problem = call("google/bert", environment={"HF_TOKEN": "hf_wrong"})["problem"]
    assert "refuses access to google/bert" in problem and "hf auth login" in problem


PARQUET = "-00000-of-00001.parquet"
SETS = {
    "parquet": (
        {f"data/train{PARQUET}", f"data/validation{PARQUET}", f"data/test{PARQUET}"},
        {
            "train": [f"data/train{PARQUET}"],
            "validation": [f"data/validation{PARQUET}"],
            "test": [f"data/test{PARQUET}"],
        },
    ),
    "shards": (
        {"data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet"},
        {"train": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]},
    ),
    "parquet first": ({"train.csv", "data/train.parquet"}, {"train": ["data/train.parquet"]}),
    "splits first": ({"scores.parquet", "train.csv", "test.csv"}, {"train": ["train.csv"], "test": ["test.csv"]}),
    "by folder": ({"default/train/0000.parquet"}, {"train": ["default/train/0000.parquet"]}),
    "dev": ({"dev.jsonl", "train.jsonl", "info.json"}, {"train": ["train.jsonl"], "validation": ["dev.jsonl"]}),
    "compressed": ({"train.csv.gz"}, {"train": ["train.csv.gz"]}),
    "unnamed": ({"reviews.tsv", "load.py"}, {"train": ["reviews.tsv"]}),
    "other splits": ({f"data/train{PARQUET}", f"data/unsupervised{PARQUET}"}, {"train": [f"data/train{PARQUET}"]}),
    "brackets": ({"train[a].csv", "traina.csv"}, {"train": ["train[a].csv"]}),
    "glue/cola": ({"cola/train.parquet", "sst2/train.parquet"}, {"train": ["cola/train.parquet"]}),
    "usual subset": ({"data/train.csv", "extra/train.csv"}, {"train": ["data/train.csv"]}),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    names = {case: f"someone/{case.replace(' ', '-')}" for case in SETS}
    files = {case: {file: file.encode() for file in SETS[case][0]} for case in SETS}
    with Hub(datasets={"/".join(names[case].split("/")[:2]): Repository(files[case]) for case in SETS}) as hub:
        first = ask([("data_files", names[case], {}) for case in SETS], hub.url, folder, {})
        asked = hub.fetched()
    again = ask([("data_files", names[case], {}) for case in SETS], hub.url, folder, {})
    results = ([answer for answer, _ in answers] for answers in (first, again))
    return *(dict(zip(SETS, found, strict=True)) for found in results), asked


@pytest.mark.parametrize("case", SETS)
def test_files_of_a_data_set_by_split(sets, case):
    found, again, _ = sets
    assert list(found[case]) == list(SETS[case][1])
    for split, files in SETS[case][1].items():
        assert [Path(path).read_bytes().decode() for path in found[case][split]] == files
    assert again[case] == found[case], "without a hub, the cache answers the same"


def test_only_the_named_files_of_a_data_set_are_fetched(sets):
    assert sets[2] == sorted(file for _, wanted in SETS.values() for files in wanted.values() for file in files)


def test_a_local_folder_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    assert model_folder(tmp_path / "runs") == tmp_path / "runs"
    assert model_folder("runs/first", revision="other", offline=True) == Path("runs/first")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("runs/frist", ["There is no folder runs/frist. Nearest: runs/first.", "google-bert/bert-base-uncased"]),
        ("./runs/zzz", ["There is no folder runs/zzz. Nearest: runs/first, runs/second."]),
        ("/nowhere/at/all", ["There is no folder /nowhere/at/all. Nearest: /"]),
        ("./rnus/first", ["There is no folder rnus/first. Nearest: runs."]),
        ("runs/first/x", ["There is no folder runs/first/x. runs/first holds no folders."]),
        ("runs/", ["runs is a file, not a folder"]),
        ("config.json", ["config.json is a file, not a folder. Name the folder"]),
    ],
)
def test_a_missing_folder_names_its_neighbours_and_asks_no_hub(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    if name == "runs/":
        (tmp_path / "runs").write_text("a file")
    else:
        for run in ("first", "second"):
            (tmp_path / "runs" / run).mkdir(parents=True)
    with pytest.raises(Problem) as raised:
        model_folder(name)
    for part in words:
        assert part in str(raised.value)

"""What tests share: real data beside the checkout, and real checkpoints out of packages."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

# One thread for each process: tests run side by side, and OpenMP threads that outnumber the cores spin each other out.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests run in the background of a script would ignore Ctrl-C, and so would the runs that they start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHECKPOINTS = Path(os.environ.get("REGARD_CHECKPOINTS", Path(__file__).resolve().parents[1] / ".cache" / "checkpoints"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; a test that asks for it is skipped where the folder is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"real data is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def checkpoint(shared: Path):
    """A function from a checkpoint's name to its folder, fetched from a package on first use."""

    def fetch(name: str) -> Path:
        folder = CHECKPOINTS / name
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)
        with FileLock(CHECKPOINTS / f"{name}.lock"):
            if not (folder / "config.json").exists():
                script = shared / "models" / "get.py"
                subprocess.run([sys.executable, script, name, "--to", CHECKPOINTS], check=True, capture_output=True)
        return folder

    return fetch


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder with random weights, two layers and a vocabulary of letters: real in all but what it knows."""
    import json

    import safetensors.torch
    import torch

    folder = tmp_path_factory.mktemp("tiny")
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in letters),
        "good",
        "bad",
        "film",
    ]
    settings = {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": len(words), "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 64,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    from regard.model.checkpoint import foreign_tensors
    from regard.model.config import EncoderConfig
    from regard.model.encoder import bert
    from regard.model.heads import Model
    from regard.model.pooling import First

    config = EncoderConfig(vocabulary=len(words), width=32, layers=2, heads=4, inner_width=64, positions=64)
    for name, tensor in foreign_tensors(Model(bert(config), First(32)), 2):
        fresh = torch.randn(tensor.shape, generator=generator) * 0.1
        tensors[name] = fresh + 1 if name.endswith("LayerNorm.weight") else fresh
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def guesser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT folder of transformers' with a head for hidden words, random weights and a vocabulary of letters."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("guesser")
    letters = "abcdefghij"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
        max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.bert.embeddings.position_embeddings.weight.mul_(5)  # so that places differ in what is guessed there
        model.cls.predictions.bias[:5] -= 9  # and it is letters
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hundred made-up reviews whose label one word decides, as a csv file."""
    import csv
    import random

    rng = random.Random(0)
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "sentiment"])
        for number in range(400):
            word = ("good", "bad")[number % 2]
            filler = ["".join(rng.choices("abcdefgh", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 12))]
            filler.insert(rng.randint(0, len(filler)), word)
            rows.writerow([" ".join(filler), {"good": "positive", "bad": "negative"}[word]])
    return path


@pytest.fixture
def browse(tmp_path: Path):
    """A function from a page to its elements after its script has run, in a real browser that must not complain.

    A test that asks for it is skipped where no Chromium is installed.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed")

    def browse(page: Path, *flags: str) -> str:
        fixed = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        fixed += " --disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000"
        command = [chromium, *fixed.split(), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr  # neither an error nor a blocked script
        return done.stdout

    return browse


VOCABULARY = 50


@pytest.fixture(scope="session")
def draw_encodings():
    """A function from lengths to sequences of random ids, in random segments."""

    def draw(lengths, seed: int = 0):
        import numpy as np

        from regard.batch import Encoding

        random = np.random.default_rng(seed)
        return [Encoding(random.integers(VOCABULARY, size=n), random.integers(2, size=n)) for n in lengths]

    return draw


@pytest.fixture(scope="session")
def draw_model():
    """A function to a random classifier of two layers with three heads, far enough from zero to attend unevenly."""

    def draw(*, kernel: str | None = None, pooling: str = "mean", **changes):
        import torch

        from regard.model.config import EncoderConfig
        from regard.model.encoder import bert
        from regard.model.heads import Head, Model
        from regard.model.pooling import pooler

        settings = {"vocabulary": VOCABULARY, "width": 24, "layers": 2, "heads": 3, "inner_width": 40, "positions": 128}
        config = EncoderConfig(**settings | changes)
        torch.manual_seed(7)
        model = Model(bert(config, kernel=kernel), pooler(pooling, config.width), Head(config.width, 4, config.dropout))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.normal_(std=0.3)
        return model.eval()

    return draw


@pytest.fixture
def fresh_compiler():
    """A compiler that knows nothing of other tests, nor they of this one."""
    import torch

    torch.compiler.reset()
    yield
    torch.compiler.reset()

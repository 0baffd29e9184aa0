"""A corpus, a treebank with coreference, and the tiny model."""

import numpy as np
import pytest

from regard.system import load


@pytest.fixture(scope="session")
def system(tiny):
    return load(tiny, precision="float32")


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("clark") / "corpus <b>&amp;.txt"
    random = np.random.default_rng(1)
    lines = ["".join(random.choice(list("abcdef "), random.integers(4, 40))) or "a" for _ in range(200)]
    path.write_text("\n".join(line if n % 9 else "" for n, line in enumerate(lines)) + "\n")
    return path


@pytest.fixture(scope="session")
def treebank_file(tmp_path_factory):
    """Sixty sentences of six words in twelve documents: words 0 and 2 of each name one entity, 4 another."""
    random = np.random.default_rng(2)
    rows = []
    for number in range(60):
        rows.append("# newdoc\n" * (number % 5 == 0) + f"# sent_id = {number}\n")
        for j in range(6):
            form = "".join(random.choice(list("abcdefg"), random.integers(1, 3)))
            head, relation = (0, "root") if j == 0 else (1, "<script>alert(1)</script>") if j % 2 else (j, "near")
            tag = ("PRON", "NOUN", "PROPN", "X", "NOUN", "X")[j]
            entity = f"Entity=(e{j // 4}-x-1)" if j in (0, 2, 4) else "_"
            rows.append(f"{j + 1}\t{form}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t{entity}\n")
        rows.append("\n")
    path = tmp_path_factory.mktemp("clark") / "bank.conllu"
    path.write_text("".join(rows))
    return path

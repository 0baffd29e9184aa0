"""The harness on a model of which it is known what its answers depend on, and against its definitions written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import regard
from regard.card import Card
from regard.data.packing import pack
from regard.errors import Problem
from regard.eval.faithful import SHARES, faithful, interval, perturbed, units
from regard.lens.attribute import methods
from regard.model.heads import Head, Model
from regard.model.pooling import Mean
from regard.model.taps import Tap
from regard.system import System

CARD = Card(task="classify", labels=("no", "yes"), pooling="mean", max_length=64)


@pytest.fixture(scope="module")
def random_system(tiny):
    base = regard.load(tiny)
    torch.manual_seed(3)
    head = Head(32, 2, 0.0)
    torch.nn.init.normal_(head.linear.weight)
    return System(base.tokenizer, Model(base.model.encoder, Mean(), head), base.origin, CARD)


@pytest.fixture(scope="module")
def known(tiny):
    """A model that says yes by how much of a text is the word good, whatever the rest and wherever it stands."""
    base = regard.load(tiny)
    head = Head(32, 2, 0.0)
    encoder = base.model.encoder
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
        for name, parameter in encoder.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1)
        # Every word is a pair of opposite coordinates, so that normalising treats all alike; one pair alone is read.
        encoder.embeddings.word[:, 2], encoder.embeddings.word[:, 3] = 1, -1
        # Positions keep it from being the same however short the words' vectors are, which no gradient would show.
        encoder.embeddings.position[:, 4], encoder.embeddings.position[:, 5] = 1, -1
        good = base.tokenizer.number("good")
        encoder.embeddings.word[good] = 0
        encoder.embeddings.word[good, 0], encoder.embeddings.word[good, 1] = 1, -1
        head.linear.weight.zero_()
        head.linear.weight[1, 0] = 8
        head.linear.bias.copy_(torch.tensor([0.5, 0.0]))
    return System(base.tokenizer, Model(encoder, Mean(), head), base.origin, CARD)


def encoded(system, texts, pairs=None):
    return system.tokenizer.encode(texts, pairs, max_length=64, detail=True)


def drawn(count, seed=0):
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        words = random.choice(list("abcdefgh"), size=random.integers(6, 14)).tolist()
        words[random.integers(len(words))] = "good"
        texts.append(" ".join(words))
    return texts


def dice(model, packed, target):
    """Scores that know nothing."""
    generator = torch.Generator().manual_seed(int(packed.ids.sum()))
    return [torch.rand(n, generator=generator) for n in _lengths(packed)]


def _lengths(packed):
    lengths = [0] * len(packed.lengths)
    for length, place in zip(packed.lengths, packed.order.tolist(), strict=True):
        lengths[place] = length
    return lengths


def test_what_the_answer_depends_on_is_found_and_chance_is_no_method(known, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "dice", dice)
    encodings = encoded(known, drawn(60))
    found = faithful(known, encodings, units(encodings), ["integrated-gradients", "decompx", "dice"])
    assert found.texts == 60 and not found.refused
    before = known.predict(drawn(60))
    assert (before[:, 1] > 0.5).all()
    without = 1 / (1 + math.exp(0.5))  # of yes, where good is hidden
    for name in ("integrated-gradients", "decompx"):
        curves = found.methods[name]
        np.testing.assert_allclose(curves.comprehensiveness, before[:, 1] - without, atol=1e-5)
        np.testing.assert_allclose(curves.sufficiency, 0, atol=1e-5)  # good alone says as much
        np.testing.assert_allclose(curves.reversed, 0, atol=1e-5)
        assert curves.flips == [1.0] * 60
        table = found.table()["methods"][name]
        assert table["beats_random"] and table["against_random"][1] > 0.1
        assert np.isnan(curves.leave_one_out).sum() == 0 and table["leave_one_out"][0] > 0.5
    guess = found.table()["methods"]["dice"]
    assert guess["against_random"][1] < 0 < guess["against_random"][2] and not guess["beats_random"]
    assert abs(guess["leave_one_out"][0]) < 0.15


def naive(system, encoding, unit_of, scores, deletion):
    """Comprehensiveness, sufficiency, flips and losses of single units, one input at a time."""
    mask = system.tokenizer.number("[MASK]")

    def probabilities(gone):
        keep = [i for i in range(len(encoding.ids)) if unit_of[i] not in gone]
        ids, segments, positions = encoding.ids.copy(), encoding.segments, np.arange(len(encoding.ids))
        if deletion == "mask":
            ids[[i for i in range(len(ids)) if i not in keep]] = mask
        else:
            ids, segments = ids[keep], segments[keep]
            positions = positions[keep] if deletion == "pad" else np.arange(len(keep))
        packed = replace(pack([replace(encoding, ids=ids, segments=segments)]), positions=torch.from_numpy(positions))
        with torch.no_grad():
            return system.model(packed).logits.softmax(-1)[0].double().numpy()

    size = max(unit_of) + 1
    before = probabilities(set())
    label = before.argmax()
    of_units = [sum(s for s, u in zip(scores, unit_of, strict=True) if u == unit) for unit in range(size)]
    order = sorted(range(size), key=lambda unit: -of_units[unit])
    rows = []
    for share in SHARES:
        count = math.ceil(share * size)
        less, alone = probabilities(set(order[:count])), probabilities(set(order[count:]))
        rows.append((before[label] - less[label], before[label] - alone[label], less.argmax() != label))
    return np.mean(rows, 0), [before[label] - probabilities({unit})[label] for unit in range(size)], of_units


@pytest.mark.parametrize(
    ("deletion", "level"), [("mask", "token"), ("drop", "word"), ("pad", "word"), ("pad", "token")]
)
def test_curves_are_those_of_the_definition(deletion, level, random_system):
    from scipy.stats import kendalltau, spearmanr

    texts = ["abc good film bad de", "f", "bad gh i", "a b c d e f g h i j k l m"]
    pairs = ["film", "xyz a", "ab good", "bad"]
    encodings = encoded(random_system, texts, pairs)
    unit_of = units(encodings, level=level)
    found = faithful(random_system, encodings, unit_of, ["gradient-input", "rollout"], deletion=deletion)
    for name in ("gradient-input", "rollout"):
        for row, encoding in enumerate(encodings):
            packed = pack([encoding])
            with torch.no_grad():
                label = random_system.model(packed).logits.argmax(1)
            scores = methods.METHODS[name](random_system.model, packed, label)[0].double().tolist()
            expected, single, of_units = naive(random_system, encoding, unit_of[row], scores, deletion)
            curves = found.methods[name]
            ours = [curves.comprehensiveness[row], curves.sufficiency[row], curves.flips[row]]
            np.testing.assert_allclose(ours, expected, atol=1e-5)
            if len(single) > 3:
                assert curves.leave_one_out[row] == pytest.approx(kendalltau(single, of_units).statistic, abs=0.05)
                assert curves.spearman[row] == pytest.approx(spearmanr(single, of_units).statistic, abs=0.05)


def test_units_are_tokens_or_words_and_special_tokens_are_none(random_system):
    (encoding,) = encoded(random_system, ["abc good"], ["abc"])
    assert random_system.tokenizer.tokens(encoding) == [
        "[CLS]",
        "a",
        "##b",
        "##c",
        "good",
        "[SEP]",
        "a",
        "##b",
        "##c",
        "[SEP]",
    ]
    assert units([encoding])[0].tolist() == [-1, 0, 1, 2, 3, -1, 4, 5, 6, -1]
    assert units([encoding], level="word")[0].tolist() == [-1, 0, 0, 0, 1, -1, 2, 2, 2, -1]


def test_a_padded_token_is_one_that_no_other_sees(draw_model, draw_encodings):
    model = draw_model(pooling="first")
    (encoding,) = draw_encodings([12])
    gone = np.isin(np.arange(12), [3, 7, 8])
    left, positions = perturbed(encoding, gone, "pad", 0)
    packed = replace(pack([left]), positions=torch.from_numpy(positions))

    def hide(scores):
        return [s.masked_fill(torch.from_numpy(gone), -torch.inf) for s in scores]

    with torch.no_grad():
        hidden = model(pack([encoding]), tap=Tap(edit={"layer.*.attention.scores": hide})).logits
        torch.testing.assert_close(model(packed).logits, hidden, atol=1e-5, rtol=1e-5)


def test_a_method_that_refuses_is_left_out_with_its_reason(known, monkeypatch):
    def refuse(model, packed, target):
        raise Problem("Too long. Use another.")

    monkeypatch.setitem(methods.METHODS, "shy", refuse)
    encodings = encoded(known, drawn(3))
    found = faithful(known, encodings, units(encodings), ["shy", "rollout"])
    assert found.refused == {"shy": "Too long. Use another."} and [*found.methods] == ["rollout"]
    with pytest.raises(Problem, match="Too long"):
        faithful(known, encodings, units(encodings), ["shy"])


def test_texts_of_one_token_have_no_ranking(known):
    encodings = encoded(known, ["good", "a good", "", "b"])
    done = []
    assert faithful(known, encodings, units(encodings), ["rollout"], advance=done.append).texts == 1
    assert sum(done) == 4
    with pytest.raises(Problem, match="two tokens"):
        faithful(known, encodings[:1], units(encodings[:1]), ["rollout"])


def test_what_cannot_be_measured_says_why(known, tiny):
    encodings = encoded(known, ["a good"])
    with pytest.raises(Problem, match="no deletion 'cut'"):
        faithful(known, encodings, units(encodings), ["rollout"], deletion="cut")
    number = System(known.tokenizer, known.model, known.origin, replace(CARD, task="regress"))
    with pytest.raises(Problem, match="probability of a label"):
        faithful(number, encodings, units(encodings), ["rollout"])


def test_an_interval_is_of_what_is_defined():
    value, low, high = interval([1.0, float("nan"), 3.0, 2.0])
    assert value == 2.0 and low < 2.0 < high
    assert all(map(math.isnan, interval([float("nan")])))

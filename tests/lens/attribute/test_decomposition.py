"""The parts of a logit are those of the paper's rules written out pair by pair, and add to the logit."""

import math

import pytest
import torch

import regard
from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.attribute import decomposition
from regard.lens.attribute.decomposition import decompose, with_bias
from regard.model.heads import Head, Model


class Parts(dict):
    """{(to, from): vector} in double precision, and the paper's rules, one vector at a time."""

    def whole(self, i):
        return sum(vector for (to, _), vector in self.items() if to == i)

    def linear(self, matrix):
        return Parts({pair: matrix.double() @ vector for pair, vector in self.items()})

    def plus(self, other):
        return Parts({pair: vector + other[pair] for pair, vector in self.items()})

    def biased(self, bias):
        bias = bias.double()
        out = Parts()
        for i in {to for to, _ in self}:
            shares = {pair: abs(float(vector @ bias)) for pair, vector in self.items() if pair[0] == i}
            total = sum(shares.values())
            for pair, share in shares.items():
                out[pair] = self[pair] + bias * (share / total if total else 1 / len(shares))
        return out

    def normalised(self, norm):
        out = Parts()
        for (i, k), vector in self.items():
            whole = self.whole(i)
            deviation = math.sqrt(float(((whole - whole.mean()) ** 2).mean()) + norm.eps)
            out[i, k] = (vector - vector.mean()) / deviation * norm.weight.double()
        return out.biased(norm.bias)

    def active(self, function):
        return Parts({(i, k): v * function(self.whole(i)) / self.whole(i) for (i, k), v in self.items()})


def mixed(parts, weights, attention):
    """Heads side by side: sum_j alpha_ij^h W_V^h x_(j<-k)."""
    matrix, size = attention.joint.weight[48:].double(), weights.shape[-1]
    out = Parts()
    for i, k in parts:
        heads = [
            sum(weights[h, i, j] * (matrix[8 * h : 8 * h + 8] @ parts[j, k]) for j in range(size)) for h in range(3)
        ]
        out[i, k] = torch.cat(heads)
    return out


def pooled(model, parts, size):
    name, everyone = type(model.pooling).__name__, range(size)
    if name == "First":
        dense = model.pooling.dense
        first = Parts({(0, k): parts[0, k] for k in everyone})
        return first.linear(dense.weight).biased(dense.bias).active(torch.tanh)
    if name == "Mean":
        return Parts({(0, k): sum(parts[i, k] for i in everyone) / size for k in everyone})
    winner = torch.stack([parts.whole(i) for i in everyone]).argmax(0).tolist()
    return Parts({(0, k): torch.stack([parts[i, k][w] for w, i in enumerate(winner)]) for k in everyone})


def naive(model, packed, place, values, target):
    """DecompX for one sequence: (S,)."""
    words = values["embeddings.output"][int(packed.bounds[place]) : int(packed.bounds[place + 1])].double()
    size = len(words)
    parts = Parts({(i, k): words[i] * (i == k) for i in range(size) for k in range(size)})
    for layer, block in enumerate(model.encoder.blocks):
        weights = values[f"layer.{layer}.attention.weights"][place].double()
        attention, feedforward = block.attention.part, block.feedforward.part
        output = attention.output
        bias = output.weight @ attention.joint.bias[48:] + output.bias
        added = mixed(parts, weights, attention).linear(output.weight)
        parts = added.plus(parts).biased(bias).normalised(block.attention.norm)
        inner = parts.linear(feedforward.inner.weight).biased(feedforward.inner.bias)
        outer = inner.active(torch.nn.functional.gelu).linear(feedforward.output.weight)
        parts = parts.plus(outer.biased(feedforward.output.bias)).normalised(block.feedforward.norm)
    head = model.head.linear
    found = pooled(model, parts, size).linear(head.weight[target, None]).biased(head.bias[target, None])
    return torch.stack([found[0, k][0] for k in range(size)])


@pytest.mark.parametrize("room", [1, 2**23])
def test_parts_are_those_written_out_and_add_to_the_logit(room, model, packed, target, tapped, monkeypatch):
    monkeypatch.setattr(decomposition, "ROOM", room)
    with torch.no_grad():
        logits = model(packed).logits
        scores = decompose(model, packed, target)
        for sequence, score in enumerate(scores):
            assert float(score.sum()) == pytest.approx(float(logits[sequence, target[sequence]]), abs=1e-4)
        values, places = tapped(model, packed)
        for sequence in (0, 2, 3):
            expected = naive(model, packed, places[sequence], values, int(target[sequence]))
            torch.testing.assert_close(scores[sequence], expected.float(), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["minilm-l6", "m3e-small"])
def test_parts_of_real_models_add_to_the_logit(name, checkpoint):
    base = regard.load(checkpoint(name))
    torch.manual_seed(0)
    head = Head(base.model.encoder.config.width, 2, 0.0)
    torch.nn.init.normal_(head.linear.weight, std=0.3)
    model = Model(base.model.encoder, base.model.pooling, head).eval()
    packed, target = (
        pack(base.tokenizer.encode(["Nobody asks why the fox jumps.", "他是一名医生。"])),
        torch.tensor([0, 1]),
    )
    scores = decompose(model, packed, target)
    assert decomposition.logit_gap(model, packed, target, scores).abs().max() < 1e-4


def test_a_bias_is_shared_by_what_parts_have_of_it_and_equally_where_none_has():
    parts = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    found = with_bias(parts, torch.tensor([8.0, 0.0]))
    torch.testing.assert_close(found, parts + torch.tensor([[6.0, 0.0], [0.0, 0.0], [2.0, 0.0]]))
    torch.testing.assert_close(with_bias(torch.zeros(4, 2), torch.tensor([8.0, 0.0])).sum(0), torch.tensor([8.0, 0.0]))


def test_a_text_that_is_too_long_is_refused_before_any_work(first, draw_encodings, monkeypatch):
    monkeypatch.setattr(decomposition, "LIMIT", 10 * 10 * 24)
    decompose(first, pack(draw_encodings([10])), torch.tensor([0]))
    with pytest.raises(Problem, match="takes up to 10"):
        decompose(first, pack(draw_encodings([11])), torch.tensor([0]))

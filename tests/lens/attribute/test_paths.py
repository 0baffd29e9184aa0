"""One row carried down the layers is that row of the whole product; a flow is what another library finds."""

import networkx as nx
import numpy as np
import pytest
import torch

from regard.data.packing import pack
from regard.errors import Problem
from regard.lens.attribute.paths import FLOW_TOKENS, alti, flow, globenc, largest_flows, last_attention, rollout
from regard.lens.contribution import contributions, vectors


def matrices(model, packed, sequence, kind):
    found = vectors(model.encoder, packed)
    return [
        torch.cat([tile for _, tile in contributions(model.encoder, found, layer, sequence, kind, room=40)])
        for layer in range(2)
    ]


def test_rollout_is_the_pooled_row_of_the_whole_product(model, packed, target, tapped, tops):
    values, places = tapped(model, packed)
    for sequence, scores in enumerate(rollout(model, packed, target)):
        place = places[sequence]
        rows = slice(int(packed.bounds[place]), int(packed.bounds[place + 1]))
        whole = torch.eye(packed.lengths[place])
        for layer in range(2):
            weights = values[f"layer.{layer}.attention.weights"][place].mean(0)
            whole = (0.5 * weights + 0.5 * torch.eye(len(weights))) @ whole
        expected = tops(model, values["layer.1.output"][rows]) @ whole
        torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)
        assert scores.dtype == torch.float32 and abs(float(scores.sum()) - 1) < 1e-5


def test_last_attention_is_the_pooled_row(model, packed, target, tapped, tops):
    values, places = tapped(model, packed)
    for place, scores in zip(places, last_attention(model, packed, target), strict=True):
        rows = slice(int(packed.bounds[place]), int(packed.bounds[place + 1]))
        expected = tops(model, values["layer.1.output"][rows]) @ values["layer.1.attention.weights"][place].mean(0)
        torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("method", "kind"), [(globenc, "N-Enc"), (alti, "ALTI")])
def test_contributions_rolled_out_are_the_product_of_matrices_whose_rows_add_to_one(
    method, kind, first, packed, target
):
    for sequence, scores in enumerate(method(first, packed, target)):
        below, above = (m / m.sum(1, keepdim=True) for m in matrices(first, packed, sequence, kind))
        torch.testing.assert_close(scores, (above @ below)[0], atol=1e-5, rtol=1e-4)


def test_flow_is_what_another_library_finds(first, packed, target):
    for sequence, scores in enumerate(flow(first, packed, target)):
        layers = matrices(first, packed, sequence, "AttnRes-W")[::-1]
        size = len(scores)
        graph = nx.DiGraph()
        for depth, layer in enumerate(layers):
            for i in range(size):
                for j in range(size):
                    graph.add_edge((depth, i), (depth + 1, j), capacity=float(layer[i, j]))
        flows = np.array([nx.maximum_flow_value(graph, (0, 0), (2, j)) for j in range(size)])
        np.testing.assert_allclose(scores, flows / flows.sum(), atol=1e-5)


def test_flow_from_several_tokens_by_hand():
    # Half enters at each of two tokens; the narrow middle lets 0.1 through to the second bottom token from each.
    start = np.array([0.5, 0.5], dtype=np.float32)
    layer = np.array([[0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    np.testing.assert_allclose(largest_flows(start, [layer]), [1.0, 0.2], atol=1e-6)
    # Below, all that leaves node 0 goes to token 0: token 1 gets what entered node 1, 0.2 at the most.
    below = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(largest_flows(start, [layer, below]), [1.0, 0.2], atol=1e-6)


def test_flow_refuses_what_would_take_minutes(first, draw_encodings):
    with pytest.raises(Problem, match="rollout"):
        flow(first, pack(draw_encodings([FLOW_TOKENS + 1])), torch.tensor([0]))

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regard.train import muon
from regard.train.muon import Muon, orthogonal


def matrices(shapes):
    chance = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=chance) * 0.02) for shape in shapes]


def test_matrices_of_one_shape_take_the_steps_that_torch_takes_one_by_one(monkeypatch):
    monkeypatch.setattr(muon, "has_bfloat16", lambda device: True)  # which torch takes for granted
    shapes = [(24, 8), (8, 8), (8, 24), (24, 8), (8, 8)]
    ours, theirs = matrices(shapes), matrices(shapes)
    together = Muon([{"params": ours, "weight_decay": 0.5}])
    one_by_one = torch.optim.Muon(theirs, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    for rate in (1e-2, 3e-3, 2e-2):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        ours[1].grad = theirs[1].grad = None  # a matrix without a gradient stays, and gathers no momentum
        for optimizer in (together, one_by_one):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, atol=1e-5, rtol=0)
    assert_close(ours[1], matrices(shapes)[1], atol=0, rtol=0)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("shape", [(3, 40, 10), (2, 10, 40), (1, 16, 16)])
def test_singular_values_come_near_one(shape, bfloat16, monkeypatch):
    monkeypatch.setattr(muon, "has_bfloat16", lambda device: bfloat16)
    found = orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(1))).float()
    values = torch.linalg.svdvals(found)
    assert 0.6 < values.min() < values.max() < 1.3

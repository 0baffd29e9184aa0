"""All methods of attribution by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from regard.batch import Packed
from regard.errors import Problem, nearest
from regard.lens.attribute.decomposition import decompose, logit_gap
from regard.lens.attribute.inputs import completeness_gap, gradient_input, integrated_gradients
from regard.lens.attribute.paths import alti, flow, globenc, last_attention, rollout
from regard.lens.attribute.target import Attribution
from regard.lens.attribute.weights import attention_integrated, gradient_attention, relevance
from regard.model.heads import Model

METHODS: dict[str, Attribution] = {
    "attention": last_attention,
    "rollout": rollout,
    "flow": flow,
    "globenc": globenc,
    "alti": alti,
    "gradient-attention": gradient_attention,
    "attention-ig": attention_integrated,
    "relevance": relevance,
    "gradient-input": gradient_input,
    "integrated-gradients": integrated_gradients,
    "decompx": decompose,
}
# Of methods whose scores must add to something: (model, packed, target, scores) -> by how much they miss it.
GAPS: dict[str, Callable[[Model, Packed, Tensor, list[Tensor]], Tensor]] = {
    "integrated-gradients": completeness_gap,
    "decompx": logit_gap,
}


def method(name: str) -> Attribution:
    """The method of that name; raises `Problem` where there is none."""
    if name not in METHODS:
        raise Problem(f"There is no method '{name}'. {nearest(name, METHODS)}Known: {', '.join(METHODS)}.")
    return METHODS[name]


def described(name: str) -> str:
    """What a method does, in one sentence."""
    return (method(name).__doc__ or "").partition("\n")[0]

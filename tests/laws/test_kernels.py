"""All kernels compute what `reference` computes, and the reference computes the formula."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data.packing import pack, unpack
from regard.errors import Problem
from regard.model import attention, grouped, groups, kernels
from regard.model.dropout import Noise, random_keys, scaled_mask
from regard.model.kernels import KERNELS

MIXES = (
    [1],
    [2, 2],
    [1, 1, 1, 5],
    [3, 3, 9, 9, 9, 31],
    [*range(1, 24)],
    [64] * 3 + [65],
    [2, 90],
    [17] * 9 + [40, 80],
    [60] * 40,
)
PADDINGS = (groups.NONE, grouped.EXPLICIT, grouped.EXPLICIT_HALF, grouped.EXPLICIT_GPU, kernels.FUSED)
TOLERANCES = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def of_any_shape(test):
    """The test over drawn lengths, heads, widths and rates of dropout."""
    shapes = given(
        lengths=st.lists(st.integers(1, 60), min_size=1, max_size=20),
        heads=st.integers(1, 4),
        width=st.integers(1, 33),
        probability=st.sampled_from([0.0, 0.3]),
    )
    return settings(max_examples=40, deadline=None)(shapes(test))


def run(name, packed, *, dtype=torch.float32, heads=3, width=8, probability=0.0, lse=False, device="cpu", law=False):
    """Outputs, log-sum-exp and gradients of a kernel on random input; None where it does not support the call.

    With `law` the input is rounded to the precision asked for, and the computation is in float64.
    """
    generator = torch.Generator().manual_seed(packed.bounds[-1].item())
    joint = torch.randn(3, len(packed.ids), heads, width, generator=generator).mul_(1.5).to(device, dtype)
    joint = joint.double() if law else joint
    weights = torch.randn(len(packed.ids), heads, width, generator=generator).to(device)
    keys = torch.randint(-(2**31), 2**31, joint.shape[1:3], dtype=torch.int32, generator=generator).to(device)
    noise = Noise(keys, probability) if probability else None
    query, key, value = (part.clone().requires_grad_() for part in joint)
    if not KERNELS[name].supports(query, noise, lse):
        return None
    mixed, found = KERNELS[name].run(
        query, key, value, packed=packed.to(device), scale=width**-0.5, noise=noise, lse=lse
    )
    assert mixed.dtype == joint.dtype and (found is not None) == lse
    gradients = torch.autograd.grad(
        (mixed.to(torch.promote_types(joint.dtype, torch.float32)) * weights).sum(), (query, key, value)
    )
    return [mixed, *gradients, *([found] if lse else [])]


def assert_like_reference(name, packed, *, tolerance, **settings):
    found, expected = run(name, packed, **settings), run("reference", packed, **settings, law=True)
    if found is None:
        pytest.skip(f"{name} does not support this call")
    for ours, law in zip(found, expected, strict=True):
        assert ours.shape == law.shape
        difference = (ours.float() - law.float()).abs().max().item()
        assert difference <= tolerance * max(1.0, law.float().abs().max().item())


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("name", "lse"), [("sdpa", False), ("sdpa", True), ("grouped", False)])
@pytest.mark.parametrize("lengths", MIXES, ids=str)
def test_kernels_are_equal(name, lengths, lse, dtype, draw_encodings):
    packed = pack(draw_encodings(lengths))
    assert_like_reference(name, packed, dtype=dtype, lse=lse, tolerance=TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lengths", MIXES, ids=str)
def test_kernels_are_equal_under_the_same_noise(lengths, probability, dtype, draw_encodings):
    packed, tolerance = pack(draw_encodings(lengths)), TOLERANCES[dtype] / (1 - probability)
    assert_like_reference("grouped", packed, dtype=dtype, probability=probability, tolerance=tolerance)


@of_any_shape
def test_kernels_are_equal_for_any_shape(lengths, heads, width, probability, draw_encodings):
    packed = pack(draw_encodings(lengths))
    for name in ("sdpa", "grouped")[probability > 0 :]:
        assert_like_reference(name, packed, heads=heads, width=width, probability=probability, tolerance=5e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("lse", [False, True])
@pytest.mark.parametrize("lengths", MIXES[3:6], ids=str)
def test_kernels_are_equal_on_a_gpu(name, lengths, lse, dtype, draw_encodings):
    packed, tolerance = pack(draw_encodings(lengths)), max(TOLERANCES[dtype], 2e-3)
    assert_like_reference(name, packed, dtype=dtype, lse=lse, width=64, tolerance=tolerance, device="cuda")


def test_the_reference_is_the_formula(draw_encodings):
    packed = pack(draw_encodings([4, 1, 3]))
    query, key, value = torch.randn(3, 8, 2, 5, generator=torch.Generator().manual_seed(0)).double()
    mixed, lse = attention.attend(query, key, value, packed=packed, scale=0.5, lse=True)
    start = 0
    for length in packed.lengths:
        for head in range(2):
            for i in range(start, start + length):
                shares = [math.exp(0.5 * query[i, head] @ key[j, head]) for j in range(start, start + length)]
                row = sum(s / sum(shares) * value[start + j, head] for j, s in enumerate(shares))
                torch.testing.assert_close(mixed[i, head], row, atol=1e-6, rtol=0)
                assert lse[i, head].item() == pytest.approx(math.log(sum(shares)), abs=1e-6)
        start += length


def test_the_reference_drops_what_the_mask_says(draw_encodings):
    packed = pack(draw_encodings([5, 3]))
    query, key, value = torch.randn(3, 8, 2, 4)
    noise = Noise(random_keys(8, 2, device=torch.device("cpu")), 0.4)
    parts = {}
    mixed, _ = attention.attend(
        query, key, value, packed=packed, scale=0.5, noise=noise, see=lambda n, v: parts.setdefault(n, v)
    )
    for weights, values, keys, found in zip(
        parts["weights"], value.split(packed.lengths), noise.keys.split(packed.lengths), mixed.split(packed.lengths),
        strict=True,
    ):  # fmt: skip
        for head in range(2):
            mask = scaled_mask(keys[:, head], len(values), 0.4, torch.float32)
            torch.testing.assert_close(found[:, head], (weights[head] * mask) @ values[:, head])


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("lengths", MIXES, ids=str)
def test_groups_are_a_partition(lengths, padding):
    plan = groups.groups(tuple(sorted(lengths)), torch.device("cpu"), torch.float32, padding)
    assert sum(group.count for group in plan) == len(lengths)
    assert plan[0].start == 0 and sum(group.tokens for group in plan) == sum(lengths)
    remaining = sorted(lengths)
    for group, following in zip(plan, [*plan[1:], None], strict=True):
        inside, remaining = remaining[: group.count], remaining[group.count :]
        assert group.tokens == sum(inside)
        assert group.longest == groups.filled(inside[-1], padding) >= inside[-1]
        assert following is None or following.start == group.start + group.tokens
        assert group.count == 1 or group.count * group.longest**2 <= padding.room
        if group.gather is None:
            assert set(inside) == {group.longest}
            continue
        assert group.gather[group.scatter].tolist() == list(range(group.tokens))
        wasted = sum(group.longest**2 - groups.filled(length, padding) ** 2 for length in inside)
        assert wasted <= padding.cost
        shown = group.shown.view(group.count, group.longest)
        assert shown.sum(1).tolist() == inside
        assert shown.flatten().nonzero().squeeze(1).tolist() == group.scatter.tolist()
        assert torch.equal(group.bias.view(shown.shape), shown.log())


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), padding=st.sampled_from(PADDINGS))
def test_rows_are_the_inverse_of_a_block(lengths, padding, draw_encodings):
    packed = pack(draw_encodings(lengths))
    x = torch.randn(len(packed.ids), 2, 3)
    plan = groups.groups(packed.lengths, torch.device("cpu"), torch.float32, padding)
    back = torch.cat([groups.unpadded(groups.padded(x, group).transpose(1, 2), group) for group in plan])
    assert torch.equal(x, back)
    assert [t.shape for t in unpack(back, packed)] == [(n, 2, 3) for n in lengths]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), dtype=st.sampled_from([*TOLERANCES]))
def test_the_rows_of_heads_are_those_of_the_block(lengths, dtype, draw_encodings):
    packed = pack(draw_encodings(lengths))
    joint, back = torch.randn(len(packed.ids), 3, 2, 5), torch.empty(len(packed.ids), 3, 2, 5)
    for group, rows in grouped._plan(packed.lengths, 2, torch.device("cpu"), dtype):
        found = grouped._pick(joint, rows.all_take, group)
        for part, x in zip(found.chunk(3), joint.unbind(1), strict=True):
            assert torch.equal(part, groups.padded(x, group).flatten(0, 1))
            assert torch.equal(part, grouped._pick(x, rows.take, group))
        grouped._put(found, rows.all_put, back, group)
        one = torch.empty(len(packed.ids), 2, 5)
        grouped._put(found.chunk(3)[1], rows.put, one, group)
        span = slice(group.start, group.start + group.tokens)
        assert torch.equal(one[span], joint[span, 1])
    assert torch.equal(joint, back)


@pytest.mark.parametrize("name", ["sdpa", "grouped"])
def test_no_gradient_of_a_part_is_filled_up_to_all_tokens(name, draw_encodings):
    packed = pack(draw_encodings([3, 3, 9, 31, 50]))
    query, key, value = torch.randn(3, len(packed.ids), 2, 8, requires_grad=True).unbind()
    mixed, _ = KERNELS[name].run(query, key, value, packed=packed, scale=1.0, noise=None, lse=False)
    nodes, seen = [mixed.grad_fn], set()
    while nodes:
        seen.add(node := nodes.pop())
        nodes += [following for following, _ in node.next_functions if following and following not in seen]
    names = {node.name() for node in seen}
    assert not {"SliceBackward0", "SelectBackward0", "AsStridedBackward0"} & names and len(names) > 2


def test_side_by_side_parts_are_one_tensor_without_a_copy():
    joint = torch.randn(7, 3, 2, 5)
    assert grouped._joined(joint.unbind(1)).data_ptr() == joint.data_ptr()
    for parts in (joint.clone().unbind(1)[::-1], [part.clone() for part in joint.unbind(1)]):
        assert torch.equal(grouped._joined(tuple(parts)), torch.stack(tuple(parts), 1))


@of_any_shape
def test_the_first_rows_alone_are_those_of_the_reference(lengths, heads, width, probability, draw_encodings):
    packed = pack(draw_encodings(lengths))
    joint = torch.randn(3, len(packed.ids), heads, width, generator=torch.Generator().manual_seed(1)).double()
    firsts, found = packed.bounds[:-1].long(), []
    keys = random_keys(len(packed.ids), heads, device=torch.device("cpu"))
    for only in (False, True):
        query, key, value = (part.clone().requires_grad_() for part in joint)
        noise = Noise(keys[firsts] if only else keys, probability) if probability else None
        given = {"packed": packed, "scale": width**-0.5, "noise": noise}
        if only:
            mixed = attention.attend_first(query[firsts], key, value, **given)
        else:
            mixed = attention.attend(query, key, value, **given)[0][firsts]
        found.append([mixed, *torch.autograd.grad(mixed.square().sum(), (query, key, value))])
    for ours, law in zip(*found, strict=True):
        torch.testing.assert_close(ours, law, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("width", [4, 26])
def test_heads_that_are_filled_up_mix_the_same(width, draw_encodings):
    packed = pack(draw_encodings([5, 3]))
    parts = [torch.randn(8, 2, width, dtype=torch.float64) for _ in range(3)]
    given = {"packed": packed, "scale": width**-0.5, "noise": None, "lse": True}
    mixed, lse = attention.attend(*parts, **given)
    filled, same = attention.attend(*map(kernels._filled, parts), **given)
    assert filled.shape[-1] % 8 == 0
    torch.testing.assert_close((filled[..., :width], same), (mixed, lse), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("width", "dtype", "capability", "taken"),
    [
        (64, torch.bfloat16, (9, 0), True), (26, torch.bfloat16, (8, 0), True), (64, torch.bfloat16, (7, 5), False),
        (264, torch.bfloat16, (9, 0), False), (64, torch.float32, (9, 0), False),
    ],
)  # fmt: skip
def test_which_heads_flash_attention_takes(width, dtype, capability, taken, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert kernels._flash_takes(SimpleNamespace(is_cuda=True, device=0, dtype=dtype, shape=(3, 2, width))) is taken


@pytest.mark.parametrize("matrix_instructions", [False, True])
def test_the_choice_of_a_kernel(matrix_instructions, draw_encodings, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: matrix_instructions)
    query, packed = torch.zeros(3, 2, 4), pack(draw_encodings([3]))
    noise = Noise(torch.zeros(3, 2, dtype=torch.int32), 0.1)
    assert kernels.choose(query, packed, None, True).name == "sdpa"
    assert kernels.choose(query, packed, None, False).name == "sdpa"
    expected = "sdpa" if matrix_instructions else "grouped"
    assert kernels.choose(query.bfloat16(), packed, None, False).name == expected
    assert kernels.choose(query.bfloat16(), pack(draw_encodings([2, 500])), None, False).name == "sdpa"
    assert kernels.choose(query, packed, noise, False).name == "grouped"
    assert kernels.choose(query, packed, noise, True).name == "reference"
    assert kernels.choose(query, packed, noise, True, name="reference").name == "reference"
    for name, reason in (("sdpa", "attention dropout"), ("varlen", "float32 on cpu"), ("flash", "no attention kernel")):
        with pytest.raises(Problem, match=reason):
            kernels.choose(query, packed, noise, True, name=name)

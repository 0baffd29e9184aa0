"""The head for hidden words: its formula, its loss in chunks, its weights from and to published folders, and `fill`."""

import json

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from command import typed

import regard
from regard.errors import Problem
from regard.model import words as module
from regard.model.config import EncoderConfig
from regard.model.words import WordHead


@pytest.fixture
def head():
    torch.manual_seed(0)
    config = EncoderConfig(vocabulary=50, width=16, layers=1, heads=2, inner_width=8)
    head = WordHead(config)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def drawn(places=37):
    torch.manual_seed(1)
    states, word = torch.randn(places, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    return states, word, torch.randint(0, 50, (places,))


def test_logits_are_those_of_the_formula(head):
    states, word, _ = drawn()
    inner = F.gelu(states @ head.dense.weight.T + head.dense.bias)
    inner = F.layer_norm(inner, (16,), head.norm.weight, head.norm.bias, head.norm.eps)
    torch.testing.assert_close(head(states, word), inner @ word.T + head.bias)


@pytest.mark.parametrize("room", [1, 4 * 50 * 10, 2**24])
@pytest.mark.parametrize("places", [37, 1, 0])
def test_the_loss_in_chunks_and_its_gradients_are_those_of_all_logits(head, monkeypatch, room, places):
    monkeypatch.setattr(module, "ROOM", room)
    states, word, truth = drawn(places)
    parameters = [states, word, *head.parameters()]
    logits = head(states, word)
    expected = F.cross_entropy(logits, truth, reduction="none")
    grown = torch.autograd.grad((expected.sum() * 3), parameters)
    total, losses, right = head.loss(states, word, truth)
    torch.testing.assert_close(losses, expected.detach())
    assert torch.equal(right, logits.argmax(-1) == truth)
    for found, wanted in zip(torch.autograd.grad(total * 3, parameters), grown, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_under_autocast_the_loss_is_near(head):
    states, word, truth = drawn()
    exact = head.loss(states, word, truth)[0]
    with torch.autocast("cpu", torch.bfloat16):
        near = head.loss(states, word, truth)[0]
    near.backward()
    assert near.item() == pytest.approx(exact.item(), rel=0.01) and word.grad.dtype == torch.float32


def test_logits_are_float32_whatever_the_weights_are(head):
    states, word, truth = drawn()
    head.bias.data, word = head.bias.data.bfloat16(), word.detach().bfloat16()
    logits = F.linear(head._compared(states).bfloat16(), word).float() + head.bias.float()
    found = head.loss(states, word, truth)[1]
    torch.testing.assert_close(found, F.cross_entropy(logits, truth, reduction="none").detach())


@pytest.mark.parametrize(("half", "most"), [(False, 500), (True, 250)])
def test_no_more_than_some_logits_are_held(head, monkeypatch, half, most):
    monkeypatch.setattr(module, "ROOM", 4 * 500)
    held = []
    real = F.linear
    monkeypatch.setattr(F, "linear", lambda *inputs: (out := real(*inputs), held.append(out.numel()))[0])
    states, word, truth = drawn(400)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        total, *_ = head.loss(states, word, truth)
    total.backward()
    assert max(held[-5:]) == most


@pytest.mark.parametrize("room", [1, 4 * 50 * 10, 2**24])
def test_ranks_and_losses_in_chunks_are_those_of_all_logits(head, monkeypatch, room):
    monkeypatch.setattr(module, "ROOM", room)
    states, word, truth = drawn()
    logits = head(states, word)
    losses, ranks = head.rank(states, word, truth)
    torch.testing.assert_close(losses, F.cross_entropy(logits, truth, reduction="none").detach())
    for most in (1, 5, 50):
        assert torch.equal(ranks < most, (logits.topk(most).indices == truth.unsqueeze(1)).any(1))
    assert not losses.requires_grad and ranks.unique().numel() > 10
    assert [part.numel() for part in head.rank(states[:0], word, truth[:0])] == [0, 0]
    with torch.autocast("cpu", torch.bfloat16):  # the states before the last product are rounded, the logits are not
        near = head.rank(states, word, truth)[0]
    torch.testing.assert_close(near, losses, rtol=0.05, atol=0.3)


@pytest.mark.parametrize("bias", [0.0, float("nan")])
def test_a_model_that_says_nothing_is_never_right(head, bias):
    states, word, truth = drawn()
    with torch.no_grad():
        head.bias.fill_(bias)
    assert head.rank(states, word * 0, truth)[1].unique().tolist() == [49]


def test_a_published_head_is_loaded_and_written_back_as_it_was(checkpoint, tmp_path):
    folder = checkpoint("albert-tiny-zh-mlm")
    system = regard.load(folder, precision="float32")
    system.save(tmp_path)
    before = safetensors.torch.load_file(folder / "model.safetensors")
    after = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_trained_bias_is_written_under_both_of_its_names(checkpoint, tmp_path):
    system = regard.load(checkpoint("albert-tiny-zh-mlm"), precision="float32")
    with torch.no_grad():
        system.model.words.bias += 1
    system.save(tmp_path)
    after = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert torch.equal(after["cls.predictions.bias"], after["cls.predictions.decoder.bias"])
    assert torch.equal(after["cls.predictions.bias"], system.model.words.bias)


def test_logits_of_a_published_head_are_those_of_transformers(checkpoint):
    from transformers import BertForMaskedLM

    from regard.data.packing import pack

    folder = checkpoint("albert-tiny-zh-mlm")
    system = regard.load(folder, precision="float32")
    encoding = system.tokenizer.encode(["他是一名[MASK]生，在医院工作。"], max_length=64)[0]
    with torch.no_grad():
        states = system.model.encoder(pack([encoding]))
        ours = system.model.words(states, system.model.encoder.embeddings.word)
        theirs = BertForMaskedLM.from_pretrained(folder).eval()(torch.from_numpy(encoding.ids)[None]).logits[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_words_of_its_own_are_loaded_where_a_checkpoint_has_them(checkpoint, tmp_path):
    system = regard.load(checkpoint("albert-tiny-zh-mlm"), precision="float32")
    system.save(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    own = tensors["bert.embeddings.word_embeddings.weight"] * 2
    safetensors.torch.save_file(tensors | {"cls.predictions.decoder.weight": own}, tmp_path / "model.safetensors")
    apart = regard.load(tmp_path, precision="float32")
    assert torch.equal(apart.model.words.table, own)
    text = "他是一名[MASK]生，在医院工作。"
    assert apart.fill(text)[0] != system.fill(text)[0]


def test_fill_guesses_words(checkpoint):
    system = regard.load(checkpoint("albert-tiny-zh-mlm"), precision="float32")
    first, second = system.fill("他是一名[MASK]生，在[MASK]院工作。", top=3)
    assert first[0][0] == "医" and len(second) == 3
    [(token, share), *_] = system.fill("他是一名[MASK]生，在医院工作。")[0]
    assert (token, share) == ("医", pytest.approx(0.73, abs=0.01))
    with pytest.raises(Problem, match=r"no \[MASK\]"):
        system.fill("他是一名医生。")
    with pytest.raises(Problem, match=r"has 2 \[MASK\], and 1 in its first 512 tokens"):
        system.fill("他是一名[MASK]生。" + "好" * 600 + "[MASK]")
    with pytest.raises(Problem, match="no head that guesses"):
        regard.load(checkpoint("minilm-l6")).fill("A [MASK].")


def test_the_verb_shows_and_prints(checkpoint):
    text = "他是一名[MASK]生，在[MASK]院工作。"
    words = ["fill", checkpoint("albert-tiny-zh-mlm"), text]
    shown, table = typed(*words), typed(*words, "--json")
    assert shown.returncode == table.returncode == 0, shown.stderr + table.stderr
    assert "1. [MASK]" in shown.stdout and "2. [MASK]" in shown.stdout
    said = json.loads(table.stdout)
    assert [len(mask) for mask in said["masks"]] == [5, 5]
    assert said["masks"][0][0]["token"] == "医"


def test_a_model_from_nothing_is_written_as_transformers_reads_it(tiny, tmp_path):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from regard.card import Card
    from regard.data.packing import pack
    from regard.model import checkpoint as checkpoints
    from regard.model.encoder import bert
    from regard.model.heads import Model
    from regard.model.pooling import pooler
    from regard.system import System

    tokenizer = regard.load(tiny).tokenizer
    config = EncoderConfig(vocabulary=tokenizer.size, width=32, layers=2, heads=2, inner_width=64, positions=16)
    torch.manual_seed(0)
    model = Model(bert(config), pooler("mean", 32), words=WordHead(config))
    torch.nn.init.normal_(model.words.bias)
    system = System(tokenizer, model, checkpoints.blank(config), Card(pooling="mean", max_length=16))
    system.save(tmp_path)
    theirs, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    text = "the cat sat on a [MASK]"
    encoding = tokenizer.encode([text], max_length=16)[0]
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == encoding.ids.tolist()
    with torch.no_grad():
        ours = model.words(model.encoder(pack([encoding])), model.encoder.embeddings.word)
        logits = theirs.eval()(torch.from_numpy(encoding.ids)[None]).logits[0]
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    assert regard.load(tmp_path).fill(text) == system.fill(text)


@pytest.mark.parametrize("room", [1, 4 * 50 * 7, 2**24])
def test_words_are_drawn_as_often_as_they_are_likely(head, monkeypatch, room):
    monkeypatch.setattr(module, "ROOM", room)
    states, word, _ = drawn(3)
    times = 200 if room == 1 else 20_000
    rows = states.detach().repeat_interleave(times, 0)
    found = head.sample(rows, word, chance=torch.Generator().manual_seed(0)).view(3, times)
    shares = head(states, word).softmax(-1)
    for own, share in zip(found, shares, strict=True):
        counts = own.bincount(minlength=50)
        assert ((counts / times - share).abs() < 5 * (share * (1 - share) / times).sqrt() + 1e-3).all()
    again = head.sample(rows, word, chance=torch.Generator().manual_seed(0)).view(3, times)
    assert torch.equal(found, again) and not found.requires_grad
    assert head.sample(rows[:0], word).shape == (0,)


def test_what_is_never_likely_is_never_drawn_and_no_number_is_no_error(head):
    states, word, _ = drawn(500)
    with torch.no_grad():
        head.bias.fill_(float("-inf"))
        head.bias[[0, 20, 49]] = 0.0
    assert set(head.sample(states, word).tolist()) <= {0, 20, 49}
    with torch.no_grad():
        head.bias.fill_(float("nan"))
    assert head.sample(states, word).max() < 50  # the loss says what is wrong

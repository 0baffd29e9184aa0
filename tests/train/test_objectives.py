from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from regard.batch import Encoding, Hidden
from regard.data.packing import pack
from regard.model.config import EncoderConfig
from regard.model.electra import Electra, generator_for, smaller
from regard.model.encoder import bert
from regard.model.heads import Detector, Head, Model
from regard.model.pooling import pooler
from regard.model.words import WordHead
from regard.train.objectives import deceived, masked_words, with_detection, with_pairs
from regard.train.optim import gradient_norm


@pytest.fixture
def model():
    torch.manual_seed(1)
    config = EncoderConfig(vocabulary=30, width=16, layers=2, heads=2, inner_width=24, positions=64)
    return Model(bert(config), pooler("mean", 16), words=WordHead(config)).eval()


@pytest.fixture
def draw_hidden(draw_encodings):
    """A function from places to sequences of 4, 9, 3 and 7 tokens with these hidden."""

    def draw(places) -> Hidden:
        packed = pack([Encoding(e.ids % 30, e.segments) for e in draw_encodings([4, 9, 3, 7])])
        places = torch.tensor(places, dtype=torch.long)
        return Hidden(packed, places, packed.ids[places], (places > 10).long(), torch.tensor([1, -1, 0, 0]))

    return draw


def of_all_tokens(model, batch):
    """The loss by its formula: from logits of all tokens over the whole vocabulary."""
    logits = model.words(model.encoder(batch.packed), model.encoder.embeddings.word)
    return F.cross_entropy(logits[batch.places], batch.truth), logits[batch.places].argmax(-1) == batch.truth


def shares(log):
    """What the log says, without what a batch has nothing of."""
    return {name: share.item() for name, share in log.items() if not share.isnan()}


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-5), (True, 2e-2)])
@pytest.mark.parametrize("places", [[5], [1, 2, 4, 14, 15, 21], list(range(23))], ids=str)
def test_masked_words_is_the_loss_of_hidden_places_in_a_pass_for_all_tokens(
    places, bfloat16, tolerance, model, draw_hidden
):
    batch = draw_hidden(places)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        loss, log = masked_words(["en", "zh"])(model, batch)
        law, right = of_all_tokens(model, batch)
    parameters = [part for name, part in model.named_parameters() if not name.startswith("pooling")]
    found = [[total, *torch.autograd.grad(total, parameters)] for total in (loss, law)]
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, atol=tolerance, rtol=tolerance)
    own = {name: right[batch.languages == number] for number, name in enumerate(("en", "zh"))}
    if not bfloat16:
        expected = {f"accuracy_{name}": part.float().mean().item() for name, part in own.items() if len(part)}
        assert shares(log) == expected


def test_where_nothing_is_hidden_there_is_nothing_to_learn(model, draw_hidden):
    loss, log = masked_words(["en"])(model, draw_hidden([]))
    loss.backward()
    assert loss.item() == 0 and shares(log) == {}
    assert all(part.grad is None or not part.grad.any() for part in model.parameters())


@pytest.fixture
def pair_model(model):
    torch.manual_seed(2)
    model.pooling, model.pairs = pooler("first", 16), Head(16, 2, 0.0)
    for parameter in (*model.pooling.parameters(), *model.pairs.parameters()):
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("places", [[], [1, 2, 4, 14, 15, 21]], ids=str)
def test_with_pairs_adds_the_loss_of_first_tokens_in_the_same_pass(places, pair_model, draw_hidden):
    batch = draw_hidden(places)
    passes = []
    pair_model.encoder.embeddings.register_forward_hook(lambda *_: passes.append(1))
    loss, log = with_pairs(masked_words(["en", "zh"]))(pair_model, batch)
    assert len(passes) == 1
    words, words_log = masked_words(["en", "zh"])(pair_model, batch)
    logits = pair_model.pairs(pair_model.pooling(pair_model.encoder(batch.packed), batch.packed))
    asked = batch.pairs >= 0
    law = words + F.cross_entropy(logits[asked], batch.pairs[asked])
    parameters = list(pair_model.parameters())
    found = [[total, *torch.autograd.grad(total, parameters)] for total in (loss, law)]
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    right = (logits.argmax(-1) == batch.pairs)[asked].float().mean().item()
    assert shares(log) == shares(words_log) | {"accuracy_pairs": pytest.approx(right)}


def test_texts_of_one_part_are_not_asked(pair_model, draw_hidden):
    batch = replace(draw_hidden([3, 4]), pairs=torch.full((4,), -1))
    loss, log = with_pairs(masked_words(["en"]))(pair_model, batch)
    loss.backward()
    assert_close(loss, masked_words(["en"])(pair_model, batch)[0])
    assert "accuracy_pairs" not in shares(log) and not pair_model.pairs.linear.weight.grad.any()
    pair_model.pairs = None
    with pytest.raises(ValueError, match="head for pairs"):
        with_pairs(masked_words(["en"]))(pair_model, batch)


@pytest.mark.parametrize("objective", [masked_words(["en"]), with_pairs(masked_words(["en"]))], ids=["words", "pairs"])
def test_no_batch_waits_for_its_device(objective, pair_model, draw_hidden, monkeypatch):
    """On a device that has shapes and no values, whatever asks for a value fails."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)  # it knows no autocast
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model = pair_model.to("meta").train()
    loss, log = objective(model, draw_hidden([1, 2, 4, 14]).to("meta"))
    loss.backward()
    assert {value.device.type for value in (loss, *log.values(), gradient_norm([*model.parameters()]))} == {"meta"}
    with pytest.raises(RuntimeError, match="meta tensors"):
        loss.item()


@pytest.fixture
def electra():
    torch.manual_seed(3)
    config = EncoderConfig(vocabulary=30, width=16, layers=2, heads=2, inner_width=24, positions=64)
    discriminator = Model(bert(config), pooler("mean", 16), detector=Detector(config))
    model = Electra(discriminator, generator_for(discriminator, smaller(config, width=0.5, layers=0.5)))
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


SPECIAL = (2, 3)


def test_a_token_is_replaced_where_it_is_not_the_true_one(draw_hidden):
    batch = draw_hidden([1, 2, 4, 14, 15, 21])
    true = batch.packed.ids.clone()
    batch.packed.ids[batch.places] = 4
    drawn = batch.truth.clone()
    drawn[[0, 3]] = (drawn[[0, 3]] + 1) % 30
    shown, replaced, plain = deceived(batch, drawn, SPECIAL)
    assert replaced.nonzero().squeeze(1).tolist() == [1, 14]
    assert torch.equal(replaced, shown.ids != true) and torch.equal(shown.ids[batch.places], drawn)
    assert torch.equal(shown.bounds, batch.packed.bounds) and (batch.packed.ids[batch.places] == 4).all()
    assert plain.tolist() == [place for place, number in enumerate(true.tolist()) if number not in SPECIAL]


@pytest.mark.parametrize("places", [[], [1, 2, 4, 14, 15, 21], list(range(23))], ids=str)
def test_detection_is_the_binary_loss_of_all_tokens_that_are_not_special(places, electra, draw_hidden):
    batch = draw_hidden(places)
    torch.manual_seed(5)
    loss, log = with_detection(masked_words(["en", "zh"]), special=SPECIAL, weight=7.0)(electra, batch)
    torch.manual_seed(5)
    generator, discriminator = electra.generator, electra.discriminator
    words, words_log = masked_words(["en", "zh"])(generator, batch)
    states = generator.encoder(batch.packed)[batch.places]
    drawn = generator.words.sample(states, generator.encoder.embeddings.word)
    shown, replaced, _ = deceived(batch, drawn, SPECIAL)
    logits = discriminator.detector(discriminator.encoder(shown))
    plain = ~torch.isin(batch.packed.ids, torch.tensor(SPECIAL))
    law = words + 7 * F.binary_cross_entropy_with_logits(logits[plain], replaced[plain].float())
    parameters = [part for _, part in electra.named_parameters()]
    found = [[total, *torch.autograd.grad(total, parameters, allow_unused=True)] for total in (loss, law)]
    for ours, expected in zip(*found, strict=True):
        assert_close(ours if ours is not None else 0 * loss, expected if expected is not None else 0 * loss, **NEAR)
    right = (logits > 0) == replaced
    expected = {
        f"accuracy_{name}": pytest.approx(right[own & plain].float().mean().item())
        for name, own in (("replaced", replaced), ("original", ~replaced)) if (own & plain).any()
    }  # fmt: skip
    assert shares(log) == shares(words_log) | expected


NEAR = {"atol": 1e-5, "rtol": 1e-5}


def test_a_generator_learns_from_its_own_loss_alone_and_shared_tables_from_both(electra, draw_hidden):
    batch = draw_hidden([1, 2, 4, 14, 15, 21])
    grown = []
    for weight in (0.0, 50.0):
        torch.manual_seed(1)
        with_detection(masked_words([]), special=SPECIAL, weight=weight)(electra, batch)[0].backward()
        grown.append({name: part.grad.clone() for name, part in electra.named_parameters()})
        electra.zero_grad()
    masked_words([])(electra.generator, batch)[0].backward()
    for name, part in electra.named_parameters():
        if name.startswith("generator"):
            assert_close(grown[0][name], part.grad, **NEAR)
            assert torch.equal(grown[0][name], grown[1][name]) and part.grad.any()
        elif "embeddings." not in name or ".norm." in name:
            assert not grown[0][name].any() and grown[1][name].any()
    for table in ("word", "position"):
        name = f"discriminator.encoder.embeddings.{table}"
        assert grown[0][name].any() and not torch.equal(grown[0][name], grown[1][name])

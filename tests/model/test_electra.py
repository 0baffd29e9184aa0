"""Generator and discriminator: borrowed tables, a generator settled as a BERT of its own, files that others load."""

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

import regard
from regard.card import Card
from regard.model import checkpoint as checkpoints
from regard.model.config import EncoderConfig
from regard.model.electra import Electra, generator_for, guesser, multiply_out, smaller
from regard.model.encoder import bert
from regard.model.heads import Detector, Model
from regard.model.pooling import Mean
from regard.system import System

CONFIG = EncoderConfig(vocabulary=50, width=24, layers=2, heads=3, inner_width=40, positions=128)


@pytest.fixture
def electra():
    torch.manual_seed(0)
    discriminator = Model(bert(CONFIG), Mean(), detector=Detector(CONFIG))
    model = Electra(discriminator, generator_for(discriminator, smaller(CONFIG, width=0.4, layers=0.5)))
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_a_generator_is_of_whole_heads_and_layers():
    assert smaller(CONFIG, width=0.4, layers=0.5) == EncoderConfig(
        vocabulary=50, width=8, layers=1, heads=1, inner_width=13, positions=128
    )
    assert smaller(CONFIG, width=0.01, layers=0.01).heads == 1
    assert smaller(CONFIG, width=1, layers=1) == CONFIG


def test_borrowed_tables_are_trained_once_and_are_in_the_state(electra):
    names = [name for name, _ in electra.named_parameters()]
    assert "discriminator.encoder.embeddings.word" in names and "generator.encoder.embeddings.map" in names
    assert not any(".lender." in name for name in names)
    generator = electra.generator.encoder.embeddings
    assert generator.lender is electra.discriminator.encoder.embeddings
    again = Electra(Model(bert(CONFIG), Mean(), detector=Detector(CONFIG)), electra.generator)
    again = Electra(again.discriminator, generator_for(again.discriminator, electra.generator.encoder.config))
    again.load_state_dict(electra.state_dict())
    for one, other in zip(electra.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_settled_generator_computes_the_same_with_tables_of_its_own(electra, draw_encodings):
    from regard.data.packing import pack

    packed = pack(draw_encodings([4, 17, 9]))
    generator = electra.generator
    own = multiply_out(generator, guesser(generator.encoder.config)).eval()
    assert own.encoder.embeddings.word.shape == (50, 8)
    with torch.no_grad():
        states, expected = (model.encoder(packed) for model in (own, generator))
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
        lender = generator.encoder.embeddings.lender
        x = (lender.word[packed.ids] + lender.position[packed.positions] + lender.segment[packed.segments]) @ (
            generator.encoder.embeddings.map.T
        )
        norm = generator.encoder.embeddings.norm
        torch.testing.assert_close(
            own.encoder.embeddings(packed),
            F.layer_norm(x, (8,), norm.weight, norm.bias, norm.eps),
            atol=1e-5,
            rtol=1e-5,
        )
        guesses = (model.words(states, model.encoder.embeddings.word) for model in (own, generator))
        torch.testing.assert_close(*guesses, atol=1e-4, rtol=1e-4)
    state = torch.get_rng_state()
    multiply_out(generator, own)
    assert torch.equal(state, torch.get_rng_state())


def test_logits_of_the_detector_are_those_of_the_formula(electra):
    states, head = torch.randn(7, 24), electra.discriminator.detector
    with torch.no_grad():
        inner = F.gelu(states @ head.dense.weight.T + head.dense.bias)
        torch.testing.assert_close(head(states), (inner @ head.output.weight.T + head.output.bias).squeeze(1))


def test_a_discriminator_is_written_under_names_that_others_know_and_comes_back(electra, tiny, tmp_path):
    from transformers import BertModel, ElectraConfig, ElectraForPreTraining

    tokenizer = regard.load(tiny).tokenizer
    config = EncoderConfig(vocabulary=tokenizer.size, width=24, layers=2, heads=3, inner_width=40, positions=128)
    model = Model(bert(config), Mean(), detector=Detector(config)).eval()
    torch.nn.init.normal_(model.detector.output.weight)
    System(tokenizer, model, checkpoints.blank(config), Card(pooling="mean", max_length=128)).save(tmp_path)
    names = safetensors.torch.load_file(tmp_path / "model.safetensors")
    theirs = ElectraForPreTraining(
        ElectraConfig(
            vocab_size=config.vocabulary, embedding_size=24, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=40, max_position_embeddings=128,
        )
    )  # fmt: skip
    report = theirs.load_state_dict(
        {name.replace("bert.", "electra.", 1): t for name, t in names.items()}, strict=False
    )
    assert not report.unexpected_keys and all("position_ids" in name for name in report.missing_keys)
    _, loading = BertModel.from_pretrained(tmp_path, output_loading_info=True, add_pooling_layer=False)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]

    system = regard.load(tmp_path, precision="float32", device="cpu")
    ((encoding, packed),) = system.packs(system.tokenizer.encode(["a bad film"], max_length=32))
    with torch.no_grad():
        found = system.model.detector(system.model.encoder(packed))
        expected = theirs.eval()(torch.from_numpy(encoding[0].ids)[None]).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    system.save(tmp_path / "again")
    again = safetensors.torch.load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == names.keys() and all(torch.equal(again[name], names[name]) for name in names)

"""One text seen through a model: its attention, and what its answer depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regard.batch import Encoding, Output
from regard.data.packing import pack
from regard.errors import Problem, nearest
from regard.lens.attribute import methods
from regard.lens.attribute.explanation import Explanation
from regard.lens.capture import capture
from regard.lens.contribution import value_norms
from regard.lens.look import Look, Words
from regard.lens.words import units
from regard.model.heads import Model
from regard.text.tokenizer import Tokenizer, clean
from regard.text.words import segmenter, words_of

NO_WORDS = (
    "This checkpoint has no head that guesses hidden words: those of sentence encoders and of tasks have lost "
    "theirs. Name one that was pre-trained and no more, such as google-bert/bert-base-uncased; beside a model that "
    "detects replaced words it is the folder generator."
)


def look(
    tokenizer: Tokenizer,
    model: Model,
    text: str,
    pair: str | None,
    *,
    layer: int | None,
    head: int | None,
    words: str | None,
    max_length: int,
    faithful: dict[str, Any] | None,
) -> Look:
    """The attention of one text or pair: of every layer and head, or of those named; see `System.look`."""
    encoder, config = model.encoder, model.encoder.config
    for name, number, count in (("layer", layer, config.layers), ("head", head, config.heads)):
        if number is not None and not 0 <= number < count:
            raise Problem(f"There is no {name} {number}: this model's are numbered from 0 to {count - 1}.")
    texts = [clean(t) for t in (text, pair) if t is not None]
    encoding = tokenizer.encode(texts[:1], texts[1:] or None, max_length=max_length, detail=True)[0]
    assert encoding.words is not None
    if pair is not None and not (encoding.segments[encoding.words >= 0] == 1).any():
        raise Problem("The second text has no token to look at. Leave it out, or write one.")
    layers = range(config.layers) if layer is None else [layer]
    heads = range(config.heads) if head is None else [head]
    found = capture(encoder, pack([encoding]).to(_device(model)), layers=layers, values=True)
    norms = [value_norms(encoder, found, number, 0)[:, heads].cpu().numpy() for number in layers]
    return Look(
        text=text,
        pair=pair,
        tokens=tuple(tokenizer.tokens(encoding)),
        owners=tuple(np.where(encoding.words < 0, -1, encoding.segments).tolist()),
        capture=found,
        layers=tuple(layers),
        heads=tuple(heads),
        head_width=config.head_width,
        norms=np.stack(norms),
        dropped=encoding.dropped,
        dropout=(config.dropout, config.attention_dropout) if encoder.training else (0.0, 0.0),
        faithful=faithful,
        words=None if words is None else _words(tokenizer, encoding, texts, words),
    )


def _words(tokenizer: Tokenizer, encoding: Encoding, texts: list[str], name: str) -> Words:
    """Which word each token is of, and how the words read."""
    assert encoding.offsets is not None and encoding.words is not None
    of = units(words_of(encoding, texts, segmenter(name)))
    names = []
    for unit in range(int(of[-1]) + 1):
        first, last = np.flatnonzero(of == unit)[[0, -1]]
        own = texts[int(encoding.segments[first])]
        span = slice(int(encoding.offsets[first, 0]), int(encoding.offsets[last, 1]))
        names.append(tokenizer.token(int(encoding.ids[first])) if encoding.words[first] < 0 else own[span])
    return Words(tuple(names), of)


def explain(
    tokenizer: Tokenizer,
    model: Model,
    outputs: Callable[[Output], Tensor],
    text: str,
    pair: str | None,
    *,
    method: str,
    label: str | None,
    labels: Sequence[str],
    max_length: int,
) -> Explanation:
    """How much each token speaks for a label, or for the likeliest; see `System.explain`."""
    attribute = methods.method(method)
    encoding = tokenizer.encode([text], None if pair is None else [pair], max_length=max_length)[0]
    packed = pack([encoding]).to(_device(model))
    number, said, probability = 0, "", None
    if model.head is not None:
        with torch.no_grad():
            row = outputs(model(packed, hidden=False))[0].float().cpu().numpy()
        number = int(row.argmax()) if label is None else _output(label, labels)
        said = labels[number] if labels else f"{float(row[0]):.3g}"
        probability = float(row[number]) if labels else None
    target = torch.tensor([number], device=packed.ids.device)
    scores = attribute(model, packed, target)
    gap = float(methods.GAPS[method](model, packed, target, scores)) if method in methods.GAPS else None
    tokens = tuple(tokenizer.tokens(encoding))
    return Explanation(tokens, scores[0].cpu().numpy(), method, said, probability, gap, encoding.dropped)


def fill(
    tokenizer: Tokenizer, model: Model, text: str, pair: str | None, *, top: int, max_length: int
) -> list[list[tuple[str, float]]]:
    """The likeliest words of each [MASK] of a text, with their probabilities; see `System.fill`."""
    mask = tokenizer.number("[MASK]")
    if model.words is None or mask is None:
        raise Problem(NO_WORDS)
    pairs = None if pair is None else [pair]
    encoding = tokenizer.encode([text], pairs, max_length=max_length)[0]
    places = np.flatnonzero(encoding.ids == mask)
    if not len(places):
        cut = f" in its first {max_length} tokens" if encoding.dropped else ""
        raise Problem(f"The text has no [MASK]{cut}. Write one for each hidden word, as in 'The [MASK] barked.'")
    room = max_length + encoding.dropped
    whole = tokenizer.encode([text], pairs, max_length=room)[0] if encoding.dropped else encoding
    if (asked := np.count_nonzero(whole.ids == mask)) > len(places):
        raise Problem(
            f"The text has {asked} [MASK], and {len(places)} in its first {max_length} tokens, which are all that is "
            "read. Shorten it."
        )
    return likeliest(model, tokenizer, encoding, places, top=top)


def likeliest(
    model: Model, tokenizer: Tokenizer, encoding: Encoding, places: NDArray[np.int64], *, top: int
) -> list[list[tuple[str, float]]]:
    """The likeliest words at some places of a sequence as it stands, and their probabilities."""
    assert model.words is not None
    with torch.no_grad():
        packed = pack([encoding]).to(_device(model))
        states = model.encoder.at(packed, torch.from_numpy(places).to(packed.ids.device))
        shares, numbers = model.words(states, model.encoder.embeddings.word).softmax(-1).topk(top)
    return [
        [(tokenizer.token(number), share) for number, share in zip(*row, strict=True)]
        for row in zip(numbers.tolist(), shares.tolist(), strict=True)
    ]


def _output(label: str, labels: Sequence[str]) -> int:
    if label not in labels:
        known = ", ".join(labels) or "none, for it predicts a number"
        raise Problem(f"There is no label '{label}'. {nearest(label, labels)}Known: {known}.")
    return labels.index(label)


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device

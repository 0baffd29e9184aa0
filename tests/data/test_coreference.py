"""Coreference chains from CoNLL-U: mentions nested, crossing, of one word, in pieces, and what they cannot be."""

import pytest

from regard.data.coreference import Mention, documents, part
from regard.data.treebank import read

# "The wife of John sleeps . She likes him ." and a second document; x opens twice, y never closes, z is in pieces.
TEXT = """\
# newdoc id = one
# global.Entity = eid-etype-head-other
# sent_id = 1
1	The	_	DET	_	_	2	det	_	Entity=(e1-person-2-new
2	wife	_	NOUN	_	_	5	nsubj	_	SpaceAfter=No
3	of	_	ADP	_	_	4	case	_	_
3.1	_	_	_	_	_	_	_	_	Entity=(gone-x-1)
4	John	_	PROPN	_	_	2	nmod	_	Bridge=e1|Entity=(e2-person-1)e1)
5	sleeps	_	VERB	_	_	0	root	_	Entity=(z[1/2]-event-1)
6	.	_	PUNCT	_	_	5	punct	_	_

# sent_id = 2
1	She	_	PRON	_	_	2	nsubj	_	Entity=(e1-person-1)(y-thing-1
2	likes	_	VERB	_	_	0	root	_	Entity=w)
3	him	_	PRON	_	_	2	obj	_	Entity=(e2-person-9)
4	.	_	PUNCT	_	_	2	punct	_	Entity=(z[2/2]-event-1)

# newdoc id = two
1	a	_	DET	_	_	2	det	_	Entity=(x-t(x-t
2	b	_	NOUN	_	_	0	root	_	Entity=x)
3	c	_	NOUN	_	_	2	conj	_	Entity=x)

# newdoc id = three
1	a	_	DET	_	_	0	root	_	_

"""


@pytest.fixture
def bank(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_text(TEXT)
    return read(path)


def test_mentions_have_their_words_and_heads(bank):
    one, two = documents(bank.sentences)  # the third has no mention
    assert one.mentions == (
        Mention("e1", 0, 4, 1),
        Mention("e2", 3, 4, 3),
        Mention("e1", 6, 7, 6),
        Mention("e2", 8, 9, 8),  # the head named is outside, so it is looked up in the tree
    )
    assert one.unread == 4  # both pieces of z, y that never closes, w that never opened
    assert (one.number, one.forms[6:9], one.tags[6]) == (0, ("She", "likes", "him"), "PRON")
    # the inner x closes first; without a head, it is the word whose own head lies outside
    assert two.mentions == (Mention("x", 0, 3, 1), Mention("x", 0, 2, 1))


def test_a_part_counts_its_own_words(bank):
    second = part(documents(bank.sentences)[0], 1, 2)
    assert [(m.entity, m.start, m.head) for m in second.mentions] == [("e1", 0, 0), ("e2", 2, 2)]
    assert second.number == 0


def test_another_scheme_says_where_heads_stand(tmp_path):
    path = tmp_path / "a.conllu"
    changed = TEXT.replace("eid-etype-head-other", "eid-head-etype").replace("(e1-person-2-new", "(e1-3-person")
    path.write_text(changed)
    found = documents(read(path).sentences)[0].mentions[0]
    assert found == Mention("e1", 0, 4, 2)
    path.write_text(TEXT.replace("# global.Entity = eid-etype-head-other", "# global.Entity = eid-etype"))
    assert documents(read(path).sentences)[0].mentions[0].head == 1  # by the tree


def test_a_document_goes_on_where_its_first_sentence_is_skipped(tmp_path):
    path = tmp_path / "a.conllu"
    path.write_text(TEXT.replace("1\tThe\t", "1\tThe "))
    bank = read(path)
    assert len(bank.skipped) == 1 and [s.document for s in bank.sentences] == [0, 1, 2]

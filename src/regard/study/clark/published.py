"""What the paper found with bert-base (12 layers of 12 heads), for comparison; layers and heads count from 0 here.

English Wikipedia for attention at large, the Penn Treebank (Stanford Dependencies) for relations and probes, CoNLL-2012
for coreference. Figures 2 and 4 are read off curves, to about 0.02. Accuracies are in percent, as printed.
"""

from __future__ import annotations

MODEL = "bert-base"
LAYERS = 12

PREVIOUS = (1, 3, 6, 7)  # layers of the heads with more than half of their weight on the previous token
NEXT = (0, 1, 1, 2, 5)  # and on the next
SEPARATED = (5, 9)  # first and last layer of those where more than half of all weight goes to [SEP]
TO_SEP = {4: 0.48, 5: 0.55, 8: 0.57}  # figure 2: mean weight of a layer's heads
TO_STOP = {10: 0.50, 11: 0.57}
SEP_TO_SEP = 0.9  # more than so much, in these layers
UNIFORM = 4.75  # nats, figure 4
CLS_ENTROPY = 3.89  # nats, last layer
QUIET = 4  # figure 3: from this layer on the gradient by attention to [SEP] is very small
SPLIT_WORDS = 0.08  # share of words that are several tokens

# Universal name: the paper's name, words, layer, head, accuracy, accuracy of the best offset, and that offset.
# The two schemes are not the same: prepositions head their phrases in Stanford Dependencies, and `case` has no like.
RELATIONS: dict[str, tuple[str, int | None, int, int, float, float, int]] = {
    "all": ("all", None, 6, 5, 34.7, 26.7, 1),
    "det": ("det", 3337, 7, 10, 94.3, 51.7, 1),
    "nsubj": ("nsubj", 2804, 7, 1, 58.5, 45.5, 1),
    "amod": ("amod", 2505, 3, 9, 75.6, 68.3, 1),
    "obj": ("dobj", 1591, 7, 9, 86.8, 40.0, -2),
    "advmod": ("advmod", 1241, 6, 5, 48.8, 40.2, 1),
    "aux": ("aux", 1237, 3, 9, 81.1, 71.5, 1),
    "nummod": ("num", 1091, 7, 10, 67.4, 56.4, 1),
    "cc": ("cc", 995, 6, 4, 47.8, 41.2, -1),
    "conj": ("conj", 995, 6, 0, 53.3, 26.8, -2),
    "nmod:poss": ("poss", 708, 6, 5, 80.5, 47.7, 1),
    "compound": ("nn", 3192, 3, 9, 70.4, 70.2, 1),
    "ccomp": ("ccomp", 557, 7, 0, 48.8, 12.4, -2),
    "xcomp": ("xcomp", 433, 4, 6, 57.3, 47.1, -2),
    "mark": ("mark", 420, 7, 1, 50.7, 14.5, 2),
    "cop": ("cop", 353, 6, 5, 72.2, 40.5, 1),
    "aux:pass": ("auxpass", 286, 3, 9, 94.1, 82.5, 1),
    "acl:relcl": ("rcmod", 286, 8, 10, 40.9, 26.6, -3),
    "advcl": ("advcl", 285, 4, 3, 29.5, 4.6, -3),
    "appos": ("appos", 272, 6, 0, 30.5, 28.3, -3),
    "nsubj:pass": ("nsubjpass", 254, 6, 5, 57.5, 43.7, 2),
    "compound:prt": ("prt", 116, 5, 6, 99.1, 91.4, -1),
}

# Kind of mention: nearest, same head word, rules in four sieves, head 4.3.
COREFERENCE = {
    "all": (27, 52, 69, 65),
    "pronoun": (29, 47, 70, 64),
    "proper": (29, 67, 77, 73),
    "nominal": (19, 40, 60, 58),
}

# Probe and the weights it reads: unlabelled attachment. Words are GloVe vectors there.
PROBES = {
    ("right-branching", "no model"): 26,
    ("distance and words", "model"): 58,
    ("attention and words", "random weights"): 30,
    ("attention", "model"): 61,
    ("attention and words", "model"): 77,
}

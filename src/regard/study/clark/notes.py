"""What the page says besides its figures: where this departs from the paper and its code, and what to know of both."""

from __future__ import annotations

from regard.lens.guards import MOVED
from regard.study.clark.experiments import Experiments
from regard.study.clark.verdicts import mean_of

DIFFERENTLY = (
    "The released code (clarkkev/attention-analysis, last changed in 2020) and the paper do not agree everywhere. "
    "Where they part, and where both can be done better:"
)


def differently(found: Experiments) -> dict[str, str]:
    """What the original does, and what is done here."""
    ids = (
        "Here the second text has segment id 1, as in pre-training; --segments zero does what the original did."
        if found.plan["segments"]
        else "This page was made so too, for --segments zero was asked for; without it the second text has id 1."
    )
    return {
        "Figure 2's notebook": (
            "Its legend is swapped: attention to the next token is labelled as the previous. Here an offset of -1 "
            "is the previous token, and a test holds it to weights written out."
        ),
        "Segment ids": (
            "The original gives the model segment id 0 for both texts of a pair, so that it never sees a second. " + ids
        ),
        "The best head": (
            "The original chooses the best of 288 heads and directions on the sentences that it scores it on, "
            "which flatters it, and gives no interval. Here half of the sentences choose and the others score; "
            "the original's manner stands beside it."
        ),
        "Split words": (
            "The paper averages over the tokens of a word that attends; the code takes the first. Here they are "
            "averaged."
        ),
        "Precision": (
            "The original stores weights in float16 and smooths entropies and divergences, by as little as 8e-6, "
            "which float16 can hardly hold. Here weights are made in float32 from queries, keys and log-sum-exps, "
            "unsmoothed."
        ),
        "Fixed numbers": (
            "144 heads and two [SEP] in each text are written into the original. Here heads and [SEP] are counted: "
            "[SEP] to [SEP] is the mean over the rows that are [SEP], others to [SEP] over the rows that are not."
        ),
        "Possessives": (
            "The original takes the 's beside a noun for right in one relation, by a condition whose parts bind "
            "in the wrong order. Here a head is right where the treebank has it."
        ),
        "Offsets": (
            "The original tries -3 to +2 as baseline and picks on the scored sentences; here -5 to +5, picked on "
            "the choosing half."
        ),
        "Divergences": (
            "The original adds them over all tokens, so that they grow with the corpus; here they are means over "
            "tokens, then over texts."
        ),
        "Gradients": (
            "The paper takes the loss of masked words and released no code. Here the checkpoint decides: masked "
            "words, the answer of its head, or a contrastive loss."
        ),
        "Coreference": (
            "The paper cuts documents to 128 tokens and chooses on all; here all stretches of whole sentences "
            "that fit are read, and the head is chosen on half of the documents."
        ),
    }


def guards(found: Experiments) -> list[str]:
    """What a reader should know, with its numbers."""
    means, setup, shape = found.means(), found.setup, found.shape
    plain, weighted = mean_of(means["to_sep"]), mean_of(means["norm_to_sep"])
    more = "much of that attention brings nothing" if plain - weighted > MOVED else "weights and products agree on it"
    free, tokens = setup["free_dimensions"], setup["tokens"] / setup["texts"]
    width = shape["head_width"]
    identifiable = (
        f"With {tokens:.0f} tokens on average and heads {width} wide, weights are not identifiable: each row could "
        f"move in at least {free} directions and the head would put out the same (Brunner et al. 2020)."
        if free
        else f"With {tokens:.0f} tokens on average and heads {width} wide no free dimension follows from these lengths."
    )
    return [
        setup["faithful"],
        (
            f"[SEP] gets {plain:.2f} of all attention; times the norm of what a token gives, ||v W_O||, "
            f"{weighted:.2f}: {more} (Kobayashi et al. 2020)."
        ),
        identifiable,
        (
            f"{2 * shape['layers'] * shape['heads']} heads and directions were tried for each relation. They are "
            "scored on sentences that did not choose, but intervals are not corrected for the number of relations."
        ),
        (
            "A name is no proof: a head that finds objects may be a head that looks two words back. The gain over the "
            "best offset says how much is left; an interval that holds 0 says that it may be nothing."
        ),
        (
            "The paper's figures are of another model, other texts, and for dependencies another scheme. That "
            "something differs does not say that either is wrong; one corpus and one treebank say nothing of others."
        ),
    ]

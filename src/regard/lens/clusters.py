"""Heads on a map, near where they attend alike, and by what they mostly do (Clark et al. 2019, section 6).

The map is metric multidimensional scaling: places x_i in the plane, whose distances d_ij(X) = ||x_i - x_j|| are to be
the given delta_ij. Their raw stress

    sigma(X) = sum_{i<j} (d_ij(X) - delta_ij)^2        (Kruskal 1964)

is brought down by the Guttman transform X <- B(X) X / n, b_ij = -delta_ij / d_ij(X), rows of B adding to 0, which never
raises it (SMACOF; de Leeuw 1977). Where it comes to rest depends on where it starts, so the best of several is kept.

As distance take the root of the Jensen-Shannon divergence, which is a metric; Clark et al. take the divergence itself,
whose triangles need not close.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STARTS = 5
STEPS = 1000  # of each start at the most
SETTLED = 1e-10  # of the stress before it: a smaller fall ends a start

BROAD = 3.8  # nats of entropy, of texts of up to 128 tokens
BROAD_SHARE = BROAD / math.log(128)  # the same as a share of the largest entropy: for texts of any length
OFFSET = 0.5  # weight on the next or the previous token
CLASS = 0.6  # weight on a class of tokens
CLASSES = {"[SEP]": "to_sep", "[CLS]": "to_cls", "punctuation": "to_stop"}  # full stops and commas
OFFSETS = {"next": "offset_+1", "previous": "offset_-1"}
NONE = ""  # the label of a head of no such behaviour


@dataclass(frozen=True, slots=True)
class Map:
    """Places in the plane, their mean at the origin, and how badly their distances fit."""

    places: Array  # (points, 2), in the units of the distances
    stress: float  # raw: sum over pairs of squared errors
    stress_1: float  # Kruskal's: sqrt(stress / sum of squared distances on the map); 0 fits, 0.2 is poor


def scale(distances: Array, *, starts: int = STARTS, seed: int = 0) -> Map:
    """The best map of (points, points) symmetric distances out of several random starts."""
    random = np.random.default_rng(seed)
    found = [_settled(distances, random.uniform(size=(len(distances), 2))) for _ in range(starts)]
    places, stress = min(found, key=lambda one: one[1])
    places = places - places.mean(0)
    size = float(np.square(_between(places)).sum()) / 2
    return Map(places, stress, math.sqrt(stress / size) if size else 0.0)


def behaviours(means: Mapping[str, Array], *, relative: bool = False) -> NDArray[np.str_]:
    """What each head mostly does: `[SEP]`, `[CLS]`, `punctuation`, `next`, `previous`, `broad`, or nothing.

    `means` are those of `lens.statistics`, name -> (layers, heads). Clark's thresholds: more than 0.6 of the weight on
    a class, 0.5 on a neighbour, or 3.8 nats of entropy, which only long texts can have; `relative` asks instead for
    more than 3.8 / ln 128 = 0.78 of the largest entropy, `entropy_share`. The first that holds, in this order.
    """
    spread, least = ("entropy_share", BROAD_SHARE) if relative else ("entropy", BROAD)
    rules = [(label, means[name] > CLASS) for label, name in CLASSES.items()]
    rules += [(label, means[name] > OFFSET) for label, name in OFFSETS.items()]
    rules.append(("broad", means[spread] > least))
    return np.select([holds for _, holds in rules], [label for label, _ in rules], NONE)


def _settled(distances: Array, places: Array) -> tuple[Array, float]:
    """Where the transform comes to rest from these places, and the stress there."""
    between = _between(places)
    stress = _stress(between, distances)
    for _ in range(STEPS):
        ratio = np.divide(distances, between, out=np.zeros_like(between), where=between > 0)
        places = (ratio.sum(1)[:, None] * places - ratio @ places) / len(places)
        between = _between(places)
        before, stress = stress, _stress(between, distances)
        if before - stress <= SETTLED * before:
            break
    return places, stress


def _between(places: Array) -> Array:
    gap = places[:, None] - places
    return np.asarray(np.sqrt((gap**2).sum(-1)))


def _stress(between: Array, distances: Array) -> float:
    return float(np.square(between - distances).sum()) / 2

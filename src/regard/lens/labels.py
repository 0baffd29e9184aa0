"""What a page about attention says, in one table: another language is another table."""

LABELS = {
    "layer": "Layer",
    "head": "Head",
    "mean": "mean",
    "all": "all",
    "unit": "Show",
    "tokens": "tokens",
    "words": "words",
    "direction": "Shade by",
    "outgoing": "where it looks",
    "incoming": "who looks at it",
    "strip": "Tokens, shaded where attention is larger",
    "looks": "“{name}” looks at",
    "looked": "Who looks at “{name}”",
    "heads": "All heads",
    "heads_hint": "Rows are layers, columns heads; colour is the square root of the weight. Choose a head; Shift or "
    "Ctrl adds one to the mean; a number at the edge chooses its whole row or column.",
    "add": "add to the mean",
    "matrix": "Attention from each row to each column; arrow keys move the reading, + and - zoom",
    "zoom_in": "Zoom in",
    "zoom_out": "Zoom out",
    "fit": "Whole",
    "one": "layer {layer}, head {head}",
    "many": "mean of {count} heads",
    "caption": "“{from}” ({i}), {which}: {direction}. Most, {top}, is “{best}” ({j}).",
    "reading": "“{from}” ({i}) gives {weight} to “{to}” ({j})",
    "unknown": "less than {weight}, which is left out,",
    "pattern": "{kind} {share} %",
    "first": "first",
    "separator": "sep",
    "previous": "prev",
    "next": "next",
    "same": "same",
    "broad": "broad",
    "whole": "All weights are in this page.",
    "part": "This page holds the {kept} largest weights of each row: {shown} % of all attention, and {now} % of what "
    "is chosen. The rest of a row is left blank, and counts as nothing in a mean over heads; none of it is larger than "
    "the smallest weight kept of that row.",
    "norms": "Of the attention here, {before} % is on special tokens; times the norm of what they give, {after} %. "
    "{moved} % of it moves elsewhere; rank correlation {correlation}.",
    "script": "With JavaScript on, all heads and the matrix stand below the text.",
    "old": "This browser cannot unpack the weights: it lacks DecompressionStream, which Chrome 80, Firefox 113 and "
    "Safari 16.4 have.",
}

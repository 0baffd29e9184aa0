"""One document made clean, or dropped with a reason: repaired, boilerplate out, its language told, its worth judged.

Thresholds are those of Gopher (Rae et al. 2021, appendix A.1.1) where it has one; lines of boilerplate go out as in C4
(Raffel et al. 2020, section 2.2). What both ask of web pages but good text of other kinds fails is left out: a full
stop at the end of every line, which no poem or heading has, and at most 100,000 words, which many a novel has.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from regard.data.corpora.duplicates import phrases, units
from regard.data.corpora.plan import Clean
from regard.data.corpus import sentences
from regard.errors import Problem
from regard.text.words import CHINESE

SAMPLE = 4_000  # characters that the language and the script are told by
SURE = 0.8  # probability from which the identifier is believed

_CHINESE = re.compile(f"[{CHINESE}]")
_KANA_HANGUL = re.compile("[\u3041-\u30ff\uac00-\ud7af]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SPACES = re.compile(r"[^\S\n]+")
# What a line has if it was decoded wrongly or is not composed: letters neither ASCII nor Chinese, controls, entities.
_SUSPECT = re.compile(
    "&[#a-zA-Z]|[\\x00-\\x08\\x0b-\\x1f\\x7f-\u1fff\u2028\u2029\u2070-\u2e7f\u3099\u309a\ua000-\ufaff\ufb00-\ufb4f\ufffd]"
)
_TAGS = (
    (re.compile(r"(?i)<br\s*/?>"), "\n"),
    (re.compile(r"(?i)</?(?:ruby|rb)>|<rp>[^<]*</rp>"), ""),
    (re.compile(r"(?i)<rt>([^<]*)</rt>"), r"（\1）"),
)
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_BULLET = re.compile(r"[•●▪■◆◦‣·*\-–—]\s")
_SYMBOL = re.compile(r"#+|\.\.\.+|…+")

# Words common in English and in no other language of Latin letters; the eight that Gopher counts and four more.
ENGLISH = frozenset(
    (
        *("the", "and", "that", "with", "this", "have", "which", "from", "they", "you", "his", "not", "but", "are"),
        *("be", "it", "to", "their", "would", "what", "when", "who"),
    )
)
COMMON = frozenset(("the", "be", "to", "of", "and", "that", "have", "with", "a", "in", "is", "it"))

# Whole lines, without their spaces at both ends, that are not part of what somebody wrote.
BOILERPLATE = re.compile(
    r"""(?ix)
    (?:via|from|source|link|来自|原文|链接)?\s*[:：]?\s*(?:https?://|www\.)\S+                  # an address alone
    | .{0,60}\b(?:enable|requires?|turn\ on)\ javascript\b.{0,60}
    | .{0,60}\b(?:we|site|website)\ uses?\ cookies\b.{0,120}
    | (?:copyright\ )?(?:©|\(c\))\s*\d{4}.{0,80} | .{0,80}\ball\ rights\ reserved\.?
    | (?:privacy|cookie)\ policy | terms\ (?:of|and)\ (?:use|service|conditions)
    | (?:log|sign)\ ?(?:in|up|out) | subscribe(?:\ now)? | read\ more\W* | click\ here.{0,30} | advertisement
    | (?:back\ to\ top|skip\ to\ (?:main\ )?content|leave\ a\ (?:comment|reply)|share\ (?:this|on)\b.{0,40})
    | (?:next|previous)\ (?:page|post|article)\W*
    | \W*(?:start|end)\ of\ (?:the|this)\ project\ gutenberg.* | produced\ by\ .{0,120}proofread.{0,80}
    | .{0,20}版权所有.{0,40} | 未经.{0,12}(?:许可|授权|同意|允许).{0,16}(?:转载|复制).{0,30}
    | [上下]一[篇页章节]\s*(?:[:：>»→].{0,60})? | 返回(?:首页|顶部|目录|列表)
    | 点击(?:这里|此处|查看|进入|下载).{0,20} | 分享(?:到|至).{0,30} | .{0,4}ICP[备证].{0,20}
    | (?:责任)?编辑\s*[:：].{0,20} | (?:本文|文章)?来源\s*[:：].{0,40} | 扫(?:一扫|描)?.{0,6}二维码.{0,30}
    | 本文由.{1,40}(?:原创|翻译|编译|整理|授权|发布).{0,40} | 阅读原文 | 免责声明\s*[:：]?
    """
)


@dataclass(slots=True)
class Cleaned:
    """What became of one document; with a reason it is dropped."""

    text: str  # a sentence or a line on each line
    language: str = ""
    reason: str = ""
    script: str = ""  # of Chinese: simplified or traditional, as it was found
    lines_out: int = 0  # lines of boilerplate that were taken out
    sentences: int = 0
    said: list[str] = field(default_factory=list)


def cleaned(text: str, declared: str, settings: Clean) -> Cleaned:
    """The document clean, or the first reason to drop it; `declared` is the language that its source names."""
    if settings.repair:
        text = repaired(text)
    lines = [line for line in (_SPACES.sub(" ", line).strip() for line in text.split("\n")) if line]
    kept = [line for line in lines if not BOILERPLATE.fullmatch(line)] if settings.boilerplate else lines
    forms = _taken_out(settings.lines)
    kept = [line for line in kept if not any(form.fullmatch(line) for form in forms)] if forms else kept
    out = Cleaned("\n".join(kept), lines_out=len(lines) - len(kept))
    if not kept:
        out.reason = "boilerplate" if lines else "empty"
        return out
    out.language = language(out.text, declared)
    if out.language not in ("en", "zh"):
        out.reason = out.language
    elif declared and out.language != declared:
        out.reason = "another language"
    else:
        out.reason = fault(kept, out.text, out.language, settings)
    if out.reason:
        return out
    if out.language == "zh":
        out.script, converted = _script(out.text, settings.chinese)
        kept = converted.split("\n")
    kept = unwrapped(kept) if settings.unwrap else kept
    if settings.sentences:
        kept = [part for line in kept for sentence in sentences(line) if (part := sentence.strip())]
    out.text, out.sentences = "\n".join(kept), len(kept)
    return out


def repaired(text: str) -> str:
    """Text as it was meant: wrong decoding undone, entities and control characters resolved, composed by NFC.

    Curly quotes and the full width of Chinese punctuation stay as they are. Of HTML only line breaks and readings
    beside characters are resolved: other tags may be what a text is about.
    """
    fix, settings = _fixer()
    if "<" in text:
        for tag, plain in _TAGS:
            text = tag.sub(plain, text)
    lines = (fix(line, settings) if _SUSPECT.search(line) else line for line in text.split("\n"))
    return _INVISIBLE.sub("", "\n".join(lines))


def unwrapped(lines: list[str]) -> list[str]:
    """Lines joined to those before them, if a third and more of them begin small, as where sentences are broken.

    A line that falls well short of the usual width ends a paragraph, or is a heading, and nothing is joined to it.
    """
    if len(lines) < 4 or 3 * sum(1 for line in lines if line[0].islower()) < len(lines):
        return lines
    width = sorted(map(len, lines))[len(lines) * 3 // 4]
    if not 40 <= width <= 120:
        return lines
    out, short = [lines[0]], len(lines[0]) < 0.75 * width
    for line in lines[1:]:
        if short and not line[0].islower():
            out.append(line)
        else:
            out[-1] += " " + line
        short = len(line) < 0.75 * width
    return out


def language(text: str, declared: str = "") -> str:
    """`en` or `zh`; otherwise `another language`, or `unsure of the language` where nothing tells it.

    The script decides for Chinese: its characters count three letters each, as a word of two does in English. English
    is told by its function words, and only where these are few by a trained identifier, which has to be sure: short
    texts and names are left to what the source declares.
    """
    text = text[:SAMPLE]
    chinese, foreign, latin, letters = (len(p.findall(text)) for p in (_CHINESE, _KANA_HANGUL, _LATIN, _LETTER))
    if chinese and 3 * chinese >= latin and 6 * foreign <= chinese and chinese + latin >= 0.8 * letters:
        return "zh"
    if not letters:
        return declared or "unsure of the language"
    if latin < 0.5 * letters:
        return "another language"
    words = _WORD.findall(text.lower())
    common = [word for word in words if word in ENGLISH]
    if len(common) >= 0.12 * len(words) and len(set(common)) > 2:
        return "en"
    found, probability = _identifier()(text[:2000])
    if found in ("en", "pcm"):  # Nigerian Pidgin, for which plain English is taken now and then
        return "en" if declared or probability >= SURE / 2 else "unsure of the language"
    if probability >= SURE and len(words) > 3:
        return "another language"
    return declared or "unsure of the language"


def fault(lines: list[str], text: str, language: str, settings: Clean) -> str:
    """The first reason why a document is not worth learning from; nothing for a good one."""
    solid = sum(map(len, text.split()))
    if language == "zh":
        size = len(_CHINESE.findall(text))
        if size < settings.characters:
            return "too short"
        words = max(1, size // 2)
    else:
        found = _WORD.findall(text)
        words = len(found)
        if reason := _english(found, settings):
            return reason
    count = len(lines)
    judged: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("few letters", lambda: sum(map(len, re.findall(r"[^\W_]+", text))) < settings.letters * solid),
        ("symbols", lambda: len(_SYMBOL.findall(text)) > settings.symbols * max(words, 10)),
        ("bullets", lambda: count > 4 and sum(1 for line in lines if _BULLET.match(line)) > settings.bullets * count),
        ("ellipses", lambda: count > 4 and sum(map(_trails_off, lines)) > settings.ellipses * count),
        ("repeated lines", lambda: _again(lines) > settings.repeated_lines * len(text)),
        ("repeated phrase", lambda: _phrase(text, language) > settings.repeated_phrase),
    )
    return next((reason for reason, is_so in judged if is_so()), "")


def _english(words: list[str], settings: Clean) -> str:
    if len(words) < settings.words:
        return "too short"
    with_letters = sum(1 for word in words if _LETTER.search(word))
    if with_letters < settings.alphabetic * len(words):
        return "few words"
    if len(words) < 50:  # too few for what follows, as Gopher, which takes no shorter ones, would have it
        return ""
    mean = sum(map(len, words)) / len(words)
    if not settings.word_length[0] <= mean <= settings.word_length[1]:
        return "word length"
    return "stop words" if sum(1 for word in words if word.lower() in COMMON) < settings.stop_words else ""


def _trails_off(line: str) -> bool:
    return line.endswith(("...", "…"))


def _again(lines: list[str]) -> int:
    """Characters of lines that stood before."""
    return sum(len(line) * (times - 1) for line, times in Counter(lines).items())


def _phrase(text: str, language: str) -> float:
    """The share that the commonest run of words makes up, if it comes at least six times."""
    length = 10 if language == "zh" else 3
    found = phrases(units(text[:1_000_000], language), length)
    if len(found) < 20:
        return 0.0
    most = int(np.unique(found, return_counts=True)[1].max())
    return most * length / len(found) if most > 5 else 0.0


def _script(text: str, wanted: str) -> tuple[str, str]:
    """Which script Chinese text is in, and the text with each line in the script that is wanted.

    A line is in the script that fewer of its characters would be changed into: a few belong to both.
    """
    some = text[: SAMPLE // 4]
    simple, full = (_differing(some, _converter(name)(some)) for name in ("t2s", "s2t"))
    script = "traditional" if simple > full else "simplified"
    if wanted == "keep":
        return script, text
    to, back = (_converter(name) for name in (("t2s", "s2t") if wanted == "simplified" else ("s2t", "t2s")))
    pairs = zip(text.split("\n"), to(text).split("\n"), strict=True)
    return script, "\n".join(
        new if new != old and _differing(old, new) > _differing(old, back(old)) else old for old, new in pairs
    )


def _differing(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=False))


@lru_cache
def _taken_out(lines: tuple[str, ...]) -> list[re.Pattern[str]]:
    return [re.compile(line) for line in lines]  # not as one, in which they would share their groups and flags


@lru_cache
def _fixer() -> tuple[Callable[..., str], Any]:
    try:
        import ftfy
    except ImportError:
        raise Problem(
            "Unicode is repaired by ftfy. Run: pip install 'regard[corpus]', or set repair = false in a plan's [clean]."
        ) from None
    return ftfy.fix_text, ftfy.TextFixerConfig(uncurl_quotes=False, fix_character_width=False, explain=False)


@lru_cache
def _identifier() -> Callable[[str], tuple[str, float]]:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise Problem("Languages are told by py3langid. Run: pip install 'regard[corpus]'") from None
    try:
        found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)  # unpacked into a temporary file
    except OSError as error:
        raise Problem(
            f"py3langid cannot unpack its model: {error.strerror}. Free some space for temporary files."
        ) from None
    classify: Callable[[str], tuple[str, float]] = found.classify
    return classify


@lru_cache
def _converter(name: str) -> Callable[[str], str]:
    try:
        import opencc
    except ImportError:
        raise Problem("Chinese scripts are told by OpenCC. Run: pip install 'regard[corpus]'") from None
    convert: Callable[[str], str] = opencc.OpenCC(name).convert
    return convert

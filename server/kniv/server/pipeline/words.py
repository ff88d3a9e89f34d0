"""Word tokenization as in UD English EWT: "don't" is "do" "n't", "al-Ani" is "al" "-" "Ani", "3pm" is "3" "pm".

Every character that is not white space lies in exactly one word. The rules follow the practice of the treebank's
training set; docs/segmentation.md has the figures. Runs without white space are split one by one, each in time linear
in its length, and the splits of short runs are cached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from kniv.server.pipeline.chunks import ATTACHED, RUN

_CACHED_RUNS = 1 << 14
_CACHED_LETTERS = 32  # longer runs are rare, and would make the cache's size the caller's choice


@dataclass(frozen=True, slots=True)
class Word:
    """A word: code points [start, end) of the sentence."""

    start: int
    end: int


def words(sentence: str) -> list[Word]:
    """Split a sentence into words, in order and disjoint; only white space lies between them.

    A run of more than `chunks.LONGEST` code points without white space is first cut into runs of that length, between
    characters and what combines with them where it can be; so no word is longer.
    """
    found: list[Word] = []
    length = len(sentence.rstrip())
    for run in RUN.finditer(sentence):
        start, end = run.span()
        for stop in _split(run.group(), end == length and start > 0):
            found.append(Word(start, run.start() + stop))
            start = run.start() + stop
    return found


def _split(run: str, final: bool) -> tuple[int, ...]:
    if run.isalpha() and run.isascii() and run.lower() not in _FUSED:
        return (len(run),)
    return _cached_ends(run, final) if len(run) <= _CACHED_LETTERS else _ends(run, final)


def _ends(run: str, final: bool) -> tuple[int, ...]:
    """Where the words of a run end; `final` says that the run ends the sentence."""
    ends: list[int] = []
    for found in _WORD.finditer(run):
        text = found.group()
        cut = _FUSED.get(text.lower())
        if cut:
            ends.append(found.start() + cut)
        if found.lastgroup == "stop" and final and found.end() == len(run) and text.endswith("."):
            ends.append(found.end() - 1)
        ends.append(found.end())
    return tuple(ends)


_cached_ends = lru_cache(_CACHED_RUNS)(_ends)


# Where words written as one are cut.
_FUSED = {
    "cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "gimme": 3, "lemme": 3, "outta": 3,
    **dict.fromkeys(("dont", "wont", "cant", "aint"), 2),
    **dict.fromkeys(("didnt", "isnt", "wasnt"), 3),
    **dict.fromkeys(("doesnt", "havent", "arent", "werent", "hadnt", "hasnt"), 4),
    "couldnt": 5, "wouldnt": 5, "shouldnt": 6,
    "im": 1, "ive": 1, "youre": 3, "theyre": 4, "thats": 4, "youve": 3, "theyve": 4, "youll": 3, "theyll": 4,
}  # fmt: skip

_APOSTROPHE = "['\u2019`\u00b4]"
_LETTER = r"[^\W\d_]"
_MARKED = rf"{_LETTER}{ATTACHED}*"
_TOP = (
    r"(?:com|org|net|edu|gov|mil|info|biz|io|co|uk|ca|de|fr|ru|jp|tv|html?|php|aspx?|jsp|pdf|docx?|xlsx?|pptx?"
    r"|txt|zip|jpe?g|png|gif|exe|csv|json|xml|py|js)"
)
_ABBREVIATIONS = (
    r"(?:Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Col|Lt|Sgt|Capt|Cmdr|Maj|Sen|Rep|Reps|Gov|Pres|Hon|St|Ft|Mt|Jr|Sr|Inc|Corp|Co|Ltd"
    r"|Bros|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec|Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun|No|Nos|vs|etc|e\.?g"
    r"|i\.?e|cf|al|approx|dept|Dept|est|Attn|Ave|Blvd|Rd|Vol|pp|Ph\.D|Sec|Esp|esp|Conf|ext|Fig|fig|Arrv|arrv)"
)
_PREFIXES = (
    r"(?:e|anti|arch|co|counter|cross|ex|extra|inter|intra|macro|mega|micro|mid|mini|multi|neo|non|over|post|pre|pro"
    r"|psycho|quasi|re|semi|sub|super|trans|ultra|un|under)"
)
_UNITS = (
    r"(?:[ap]\.?m\.?|[kKmMgG]|[kKmMgG][bB]|mm|MM|cm|kg|km|ft|mins?|hrs?|lbs?|oz|mph|x|bn|mins|minutes|hours|days|watt)"
)

_ADDRESS_END = r"[^\s<>\"\u201d]*[\w/=&#~+%-]"
_KINDS = (
    # Addresses, file names, newsgroups; punctuation after them is no part of them.
    rf"(?:(?i:https?|ftp)://|(?i:www)\.){_ADDRESS_END}",
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*",
    rf"[\w-]+(?:\.[\w-]+)*\.(?i:{_TOP})\b(?:/{_ADDRESS_END}|/)?",
    r"(?:alt|comp|rec|sci|soc|misc|talk)(?:\.[\w-]+){2,}",
    # Emoticons and arrows.
    r"[:;=][-'^o]?(?:[()DPpOo|\\*\]\[]+|/)(?!\w)|[xX]D+\b|<3|\^_+\^|-_+-|<-+|-+>",
    # Dates; "1/2" and "3/4" are three words each, but "9/11" is one.
    r"\d{1,4}/\d{1,2}/\d{2,4}\b|(?:0?[1-9]|1[0-2])/(?:0?[5-9]|[12]\d|3[01])\b",
    r"\d{1,2}-\d{1,2}-(?:\d{4}|\d{2})\b",
    # Telephone numbers, extensions, postcodes.
    r"\(?\d{3}\)?-\d{3}-\d{4}\b|(?:1-)?\d{3}-\d{3}-\d{4}\b|\d{3}-\d{4}\b|\d{5}-\d{4}\b|[xX]-?\d+(?:-\d+)?\b",
    # "P&L", "l/c", "w/o", the "w/" of "w/investors", the "US" of "US$5".
    r"(?i:(?<!\w)[a-z]{1,3}&[a-z]{1,2}\b|(?<![\w/])[a-z]/[a-z](?![\w/])|w/out\b|(?<!\w)w/(?=\w)|(?:US|U|AU|C)(?=\$\d))",
    # Times, ordinals and decades, numbers before a unit.
    r"\d{1,2}:\d{2}(?::\d{2})?",
    r"\d+(?:st|nd|rd|th|ST|ND|RD|TH|s|S)\b",
    rf"\d+(?:[.,]\d+)*(?={_UNITS}(?!\w))",
    # Abbreviations that keep their full stop, except at the end of a sentence; initialisms without the last one.
    rf"(?P<stop>(?<!\w)(?:{_ABBREVIATIONS}|[A-Z])\.(?!{_LETTER}|\.)|(?:{_LETTER}\.){{2,}}(?:{_LETTER}(?!\w))?)",
    r"(?:[A-Z]\.)+[A-Z](?!\w)",
    # Contractions.
    rf"(?:{_MARKED})+?(?=[nN]{_APOSTROPHE}[tT](?!\w))",
    rf"[nN]{_APOSTROPHE}[tT](?!\w)|{_APOSTROPHE}(?i:s|m|re|ve|ll|d|em|til|cause)(?!\w)",
    # Names with an apostrophe inside: "O'Connell", "Shi'ite".
    rf"{_LETTER}{{1,3}}{_APOSTROPHE}(?=[A-Z])(?!(?:S|M|RE|VE|LL|D)\b){_LETTER}+",
    rf"{_LETTER}+{_APOSTROPHE}{_LETTER}{{3,}}",
    # Prefixes keep their hyphen; other hyphens are words.
    rf"(?i:\b{_PREFIXES})-\w+",
    # Letters and digits mixed, numbers, names with underscores, plain words.
    r"(?=[^\W_]*\d)(?=[^\W_]*[^\W\d_])[^\W_]+",
    rf"\d+{_APOSTROPHE}s(?!\w)|(?:(?<!\w)[.,+])?\d+(?:[.,:]\d+)*",
    r"[^\W_]+(?:_[^\W_]+)+",
    rf"(?:{_MARKED})+",
    # Punctuation repeated, flags, and any other character with what combines with it.
    r"\.{2,}|[.,:]\?+|[-=]{2,}|[!?]{2,}|\*+|_+|~+|#+|\++|\$+|\u2026+|<+|>+|/{2,}|\\+|,{2,}|\^+|\u2022+",
    r"['\u2019\u2018`]{2}|[\U0001f1e6-\U0001f1ff]{2}",
    rf"\S(?:\u200d\S|{ATTACHED})*",
)
_WORD = re.compile("|".join(_KINDS))

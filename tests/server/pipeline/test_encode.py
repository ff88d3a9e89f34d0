from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kniv.server.errors import RepositoryError
from kniv.server.pipeline.encode import Encoder
from kniv.server.pipeline.stitch import home_windows
from kniv.server.repository.metadata import Metadata

LIMITS = Metadata(max_subwords=40, max_previous_subwords=12)
WORDS = st.one_of(
    st.sampled_from(["the", "Paris", "unbelievably", "\x00", "\u200d", "👩‍👩‍👧", "IBM", "x" * 300, "don", "n't", "["]),
    st.text(st.characters(exclude_categories=["Cs", "Zs"]), min_size=1, max_size=12),
)


@pytest.fixture(scope="module")
def encoder(mini: Path) -> Encoder:
    return Encoder(mini / "tokenizer.json", LIMITS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words=st.lists(WORDS, max_size=120))
def test_every_word_is_read_in_some_window_within_the_limit(encoder: Encoder, words: list[str]) -> None:
    windows = encoder.windows(words)
    covered = {word for window in windows for word in range(window.begin, window.end)}
    assert covered == set(range(len(words)))
    for window in windows:
        assert 3 <= len(window.ids) <= LIMITS.max_subwords
        assert len(window.first) == window.end - window.begin
        assert (window.first[1:] > window.first[:-1]).all()
        assert window.first[0] >= 1 and window.first[-1] < len(window.ids) - 1
    for before, after in itertools.pairwise(windows):
        assert before.begin < after.begin <= before.end < after.end
    home = home_windows(windows, len(words))
    assert all(windows[index].begin <= word < windows[index].end for word, index in enumerate(home))
    assert (home[1:] >= home[:-1]).all()


@pytest.mark.parametrize(("letters", "cut"), [(38, False), (39, True), (200, True)])
def test_a_word_that_does_not_fit_is_cut_and_its_window_says_so(encoder: Encoder, letters: int, cut: bool) -> None:
    (window,) = encoder.windows(["\u6f22" * letters])
    assert len(window.ids) == LIMITS.max_subwords and window.cut is cut


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(previous=st.none() | st.text(max_size=300), text=st.text(max_size=300))
def test_a_pair_keeps_the_end_of_the_turn_before_and_the_start_of_this_one(
    encoder: Encoder, previous: str | None, text: str
) -> None:
    previous, text = (value and value.encode(errors="replace").decode() for value in (previous, text))
    ids = encoder.pair(previous, text).tolist()
    alone = encoder.pair(None, text).tolist()
    assert len(ids) <= LIMITS.max_subwords
    assert ids[0] == alone[0] and ids[-1] == alone[-1]
    if previous is None:
        assert ids == alone
        return
    split = ids.index(ids[-1])
    assert split - 1 <= LIMITS.max_previous_subwords
    mine = ids[split + 1 : -1]
    assert mine == alone[1 : len(mine) + 1]
    before = encoder.pair(None, previous).tolist()[1:-1]
    if len(before) <= LIMITS.max_previous_subwords:
        assert ids[1:split] == before


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RepositoryError, match=r"tokenizer\.json"):
        Encoder(path, LIMITS)

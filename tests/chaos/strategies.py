"""Hostile frames and payloads for hypothesis, which makes what fails small: of the same blocks as `frames.Frames`."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from .frames import DOCUMENTS, KEYS, NAMES, ODD, golden, nested, rendered

__all__ = ["messages", "payloads"]

_keys = st.sampled_from(KEYS) | st.text(st.characters(codec=None), max_size=5)

_values = st.recursive(
    st.sampled_from(ODD)
    | st.text(st.characters(codec=None), max_size=20).map(json.dumps)
    | st.integers().map(str)
    | st.floats().map(json.dumps)
    | st.builds(nested, st.integers(0, 2000), st.sampled_from(ODD), objects=st.booleans()),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(_keys, inner), max_size=4).map(rendered)
    ),
    max_leaves=8,
)

_in_other_case = st.sampled_from([str.lower, str.upper, str.title])


@st.composite
def _documents(draw: st.DrawFn) -> str:
    """What the exchange answers, with values of any type, keys left out, keys twice in one case or another."""
    fields = list(draw(st.sampled_from(DOCUMENTS)).items())
    for key in draw(st.lists(st.sampled_from([key for key, _ in fields]), max_size=3)):
        fields = [pair for pair in fields if pair[0] != key] + [(key, draw(_values))]
        if draw(st.booleans()):
            fields.append((draw(_in_other_case)(key), draw(_values)))
    return rendered(draw(st.permutations(fields))[draw(st.integers(0, 1)) :])


payloads = (
    _documents()
    | st.lists(_documents(), max_size=3).map(lambda rows: f"[{','.join(rows)}]")
    | _values
    | st.text(st.characters(codec=None))
)
"""The texts of payloads."""


def _texts(*good: str) -> st.SearchStrategy[str]:
    return st.sampled_from(good) | _values


_frames = st.builds(
    lambda m, i, n, o, more, order: rendered(
        order.sample(fields := [*zip("mino", (m, i, n, o), strict=True), *more], len(fields))
    ),
    m=_texts(*"0123456"),
    i=_texts("2", "4", "0", "-1"),
    n=st.sampled_from(NAMES).map(json.dumps) | _values,
    o=payloads.map(json.dumps) | payloads,
    more=st.lists(st.tuples(_keys, _values), max_size=2),
    order=st.randoms(use_true_random=False),
)

_bytes = _frames.map(lambda frame: frame.encode("utf-8", "surrogatepass")) | st.sampled_from(golden())

messages = (
    _bytes
    | st.builds(
        lambda message, place, piece: message[:place] + piece + message[place:],
        _bytes,
        st.integers(0, 300),
        st.binary(max_size=4),
    )
    | st.builds(lambda message, place: message[:place], _bytes, st.integers(0, 300))
    | st.builds(lambda mark, message: mark + message, st.sampled_from([b"\xef\xbb\xbf", b"\x00", b"\xff\xfe"]), _bytes)
    | st.binary()
)
"""Frames in which anything may be anything, golden ones, and either with bytes lost or put in."""

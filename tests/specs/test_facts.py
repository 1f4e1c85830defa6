"""A fact is a number with unit, kind and source; nothing weaker is accepted."""

import pytest

from calc.specs.errors import SpecError
from calc.specs.facts import KINDS, Source, fact_from, sources_from, spec_files

SOURCES = {"sheet": Source("sheet", "A datasheet", "https://example.org", "2026-01")}
ROW = {"value": 3.35, "unit": "TB/s", "kind": "published", "source": "sheet"}


def test_a_row_becomes_si_and_keeps_what_was_printed():
    fact = fact_from({**ROW, "note": "n", "date": "2026-05"}, SOURCES, "here")
    assert (fact.value, fact.unit, fact.printed) == (3.35e12, "byte/s", "3.35 TB/s")
    assert (fact.sources[0].title, fact.note, fact.date) == ("A datasheet", "n", "2026-05")
    assert float(fact) == 3.35e12


def test_several_sources_keep_their_order():
    sources = sources_from({"b": {"title": "B"}, "a": {"title": "A", "date": "2026"}})
    fact = fact_from({**ROW, "source": ["b", "a"]}, sources, "here")
    assert [source.id for source in fact.sources] == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "TB"}, None),
        ({"unit": "Tb/s"}, "here: unit 'Tb/s' is not known"),
        ({"kind": "guess"}, "here: kind 'guess' is not known"),
        ({"source": "blog"}, "here: source 'blog' is not in the file's list"),
        ({"source": ["sheet", "blog"]}, "here: source 'blog' is not in the file's list"),
        ({"source": ""}, "here: a published figure needs a source"),
        ({"source": "", "kind": "measured"}, "here: a measured figure needs a source"),
        ({"source": "", "kind": "secondary"}, "here: a secondary figure needs a source"),
        ({"source": "", "kind": "assumed"}, None),
        ({"source": "", "kind": "derived"}, None),
        ({"alternatives": [{"value": 3, "unit": "TBps", "reason": "r"}]}, "here: alternatives: unit 'TBps'"),
        (
            {"alternatives": [{"value": 3, "unit": "TB/s", "source": "blog", "reason": "r"}]},
            "here: alternatives: source 'blog' is not in the file's list",
        ),
    ],
)
def test_a_fact_without_a_known_unit_kind_or_source_is_refused(change, message):
    if message is None:
        assert fact_from({**ROW, **change}, SOURCES, "here").value > 0
        return
    with pytest.raises(SpecError) as caught:
        fact_from({**ROW, **change}, SOURCES, "here")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_the_kinds_are_ordered_from_best_to_weakest():
    assert list(KINDS) == ["published", "measured", "derived", "secondary", "assumed"]


@pytest.mark.parametrize("folder", ["hardware_specs", "prices"])
def test_the_shipped_folders_are_found(folder):
    files = spec_files(folder)
    assert len(files) >= 10
    assert all(path.suffix == ".yaml" and path.stem == name for name, path in files.items())

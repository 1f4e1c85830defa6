"""YAML is read strictly: every refusal is one line that names the file and the place."""

import pytest

from calc.specs.errors import SpecError, unknown_name
from calc.specs.strict_yaml import read_yaml


def refusal(path):
    with pytest.raises(SpecError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_mapping_is_read_as_it_stands(written):
    data = read_yaml(written("a: 1\nb: {c: [1, 2.5], d: text}\ne: 'quoted 4.8e12'\nf: null\n"))
    assert data == {"a": 1, "b": {"c": [1, 2.5], "d": "text"}, "e": "quoted 4.8e12", "f": None}


def test_a_date_stays_text_because_it_is_a_label(written):
    assert read_yaml(written("date: 2026-11-22\n")) == {"date": "2026-11-22"}


def test_a_key_written_twice_is_refused_with_its_line(written):
    assert "line 2: key 'a' appears twice" in refusal(written("a: 1\na: 2\n"))
    assert "line 3: key 'b' appears twice" in refusal(written("top:\n  b: 1\n  b: 2\n"))


@pytest.mark.parametrize("number", ["4.8e12", "1e9", "-2E5", "1,5e3"])
def test_a_number_that_would_load_as_text_is_refused(written, number):
    message = refusal(written(f"memory:\n  bandwidth: {number}\n"))
    assert "line 2" in message
    assert "would load as text; write a smaller number with a unit prefix" in message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "missing.yaml")


def test_a_folder_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"), [("- 1\n- 2\n", "list"), ("just text\n", "str"), ("", "NoneType")]
)
def test_a_file_without_keys_at_the_top_is_refused(written, text, found):
    assert f"expected a mapping of keys at the top, found {found}" in refusal(written(text))


@pytest.mark.parametrize("text", ["a: [1, 2\nb: 3\n", "a: b: c\n", "a:\n\t- 1\n", "a: &x 1\nb: *y\n"])
def test_broken_yaml_is_refused_with_its_line(written, text):
    message = refusal(written(text))
    assert "not valid YAML" in message
    assert ", line " in message


def test_yaml_that_would_build_an_object_is_refused(written):
    assert "not valid YAML" in refusal(written("a: !!python/object/apply:os.system ['true']\n"))


def test_a_key_that_is_a_list_is_refused(written):
    assert "a key must be a word" in refusal(written("? [a, b]\n: 1\n"))


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    assert "not valid YAML" in refusal(path)


def test_a_typo_is_answered_with_the_nearest_name():
    assert str(unknown_name("device", "H100-SXN", ["h100-sxm", "a100"])) == (
        "unknown device 'H100-SXN': did you mean 'h100-sxm'?"
    )


def test_a_name_far_from_all_others_is_answered_with_what_is_allowed():
    assert str(unknown_name("term", "xyz", ["spot", "market"])) == "unknown term 'xyz': allowed: market, spot"
    many = [f"device-{number}" for number in range(20)]
    assert "20 names are known, e.g. device-0, device-1, device-10; or a path" in str(
        unknown_name("device", "zzz", many, hint="or a path")
    )


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "a: &a [*a]\n",
        "a: " + "[" * 200_000 + "]" * 200_000,
        "a:\n" + "- " * 100_000,
        "a: {b: " * 100,
    ],
    ids=["aliases", "itself", "brackets", "dashes", "braces"],
)
def test_a_small_file_that_grows_or_nests_without_end_is_refused(written, text):
    assert "not valid YAML (" in refusal(written(text))


def test_a_key_that_is_no_word_is_refused(written):
    assert "a key must be a word" in refusal(written("!!set x: 1\n"))

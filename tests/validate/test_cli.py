"""The validator's command line: commands, errors of one line, exit codes."""

import pytest

from validate.cli import COMMANDS, main


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_without_arguments_the_commands_are_listed(capsys):
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name, (_, home) in COMMANDS.items() if home is None])
def test_what_comes_later_says_so_in_one_line(capsys, name):
    assert run(capsys, name, "rows.csv", "--json") == (
        2,
        "",
        f"validate: {name} is not part of this release yet\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memroy"], "did you mean 'memory'"),
        (["memory"], "required: LOGS"),
        (["memory", "logs.csv", "--color"], "unrecognized arguments: --color"),
        (["memory", "start.log", "--tp", "two"], "invalid int value: 'two'"),
        (["memory", "nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory)"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("validate: ")
    assert message in err
    assert err.count("\n") == 1


def test_help_shows_an_example(capsys):
    code, out, _ = run(capsys, "memory", "--help")
    assert code == 0
    assert "example: python -m validate memory" in out

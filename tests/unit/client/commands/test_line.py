"""A pasted line into words: as a shell reads it, and nothing of what a shell would do."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doogie_client.commands import CommandRefused, FaultKind, split_line


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("docker run -i mcp/time", ["docker", "run", "-i", "mcp/time"]),
        ("  a\t b  ", ["a", "b"]),
        ("a 'b c' \"d e\" f\\ g", ["a", "b c", "d e", "f g"]),
        ("a'b'\"c\"\\d", ["abcd"]),
        ("a '' \"\"", ["a", "", ""]),
        ("docker run \\\n  -i \\\r\n  mcp/time\n", ["docker", "run", "-i", "mcp/time"]),
        ('"a \\" b \\\\ c \\$ d \\x e"', ['a " b \\ c $ d \\x e']),
        ('"a\\\nb"', ["ab"]),
        ("'a\\\nb'", ["a\\\nb"]),
        ("'$A `b` | && > < ; # ~ $(c) <d>'", ["$A `b` | && > < ; # ~ $(c) <d>"]),
        ('"a | b && c > d; <e> #f ~"', ["a | b && c > d; <e> #f ~"]),
        ('a#b a~b a=~ $ "$" 5$', ["a#b", "a~b", "a=~", "$", "$", "5$"]),
        ("\\$A \\| \\#", ["$A", "|", "#"]),
        ("pkg[extra]==1.* https://x/y?z", ["pkg[extra]==1.*", "https://x/y?z"]),
        ("a\u00a0b c\u2028d", ["a\u00a0b", "c\u2028d"]),
        ("\n\n a \n \n", ["a"]),
        ("", []),
    ],
)
def test_a_line_is_split_as_a_shell_splits_it(line: str, words: list[str]) -> None:
    assert split_line(line) == words


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("a $HOME", "$HOME"),
        ('a "$HOME/x"', "$HOME"),
        ("a ${HOME}", "${HOME…}"),
        ("a ${KEY:-do-not-show}", "${KEY…}"),
        ("a $(do-not-show)", "$("),
        ("a `do-not-show`", "`"),
        ("a $1", "$1"),
        ("a $'do-not-show'", "$'"),
        ("a | b", "'|'"),
        ("a || b", "'||'"),
        ("a && b", "'&&'"),
        ("a & b", "'&'"),
        ("a; b", "';'"),
        ("a > b", "'>'"),
        ("a 2>&1", "'>'"),
        ("a << b", "'<<'"),
        ("(a)", "'('"),
        ("a ~/b", "'~'"),
        ("a # b", "comment"),
        ("a\nb", "second line"),
        ("a 'b", "single quote"),
        ('a "b', "double quote"),
        ("a \\", "backslash"),
        ("a --key=<your-key>", "<your-key>"),
        ("a -e K=<your service token> b", "<your service token>"),
    ],
)
def test_what_needs_a_shell_is_refused_by_name_and_not_shown_further(line: str, named: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        split_line(line)
    (fault, *_) = refused.value.faults
    assert (fault.kind, fault.loc) == (FaultKind.MALFORMED, "command")
    assert named in fault.msg
    assert "do-not-show" not in str(refused.value)


def test_all_expansions_of_a_line_are_found_at_once() -> None:
    with pytest.raises(CommandRefused) as refused:
        split_line('docker run -v $(pwd):/work -e A="$B" "${C}" mcp/x | tee log')
    assert [fault.msg.split()[0] for fault in refused.value.faults] == ["$(", "$B", "${C…}", "'|'"]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_words_that_are_quoted_come_out_as_they_were(words: list[str]) -> None:
    quoted = ["'" + word.replace("'", "'\\''") + "'" for word in words]
    assert split_line(" ".join(quoted)) == words


PIECES = st.sampled_from(
    ["a", "b c", " ", "\t", "'", '"', "\\", "\\\n", "\n", "'d e'", '"f g"', "=", "-x", "#", "?", "é"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_what_is_accepted_is_what_the_shell_of_this_machine_makes_of_it(line: str) -> None:
    try:
        words = split_line(line)
    except CommandRefused:
        return
    # noglob: a pattern is text here, and in a shell only as long as no file matches it.
    script = 'set -f; show() { for word do printf "%s\\0" "$word"; done; }; show ' + line.lstrip(" \t\n")
    shell = subprocess.run(["sh", "-c", script], capture_output=True, check=True, timeout=30)
    assert shell.stdout.decode().split("\0")[:-1] == words

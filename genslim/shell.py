"""``genslim shell-init``: a shell function that tells `export trt` from the builtin `export`.

In bash a function called ``export`` is enough: bash goes by the command's name when it decides
that ``export A=$B`` holds assignments, which are not split into words, so the function gets what
the builtin would have got.

In zsh ``export`` is a reserved word, and functions come after those. Switching the word off makes
zsh call the function, but then ``export A=$(pwd)`` is an ordinary argument, which is split, and
whose ``~`` stands for itself. An interactive zsh therefore switches it off for one line, and only
where that line holds one of the program's commands: every other line, and every file that it
sources, meets the reserved word.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Literal

DISPATCH = """\
function export {
  case "${1-}" in
    COMMANDS|--help|--version) command env export "$@" ;;
    *) builtin export "$@" ;;
  esac
}
"""
"""``env`` looks for a program, past functions and builtins; ``${1-}`` is for ``set -u``."""

ZSH_HOOKS = """\
if [[ -o zle && -t 0 && -z ${ZSH_EXECUTION_STRING-} ]]; then
  function _genslim_before_parsing {
    emulate -L zsh -o extended_glob
    local known='(COMMANDS|--help|--version)'
    if [[ $BUFFER == (*[^[:alnum:]_]|)export[[:blank:]]##${~known}([^[:alnum:]_=]*|) ]]; then
      disable -r export
    fi
    return 0
  }
  function _genslim_after_parsing { enable -r export }
  autoload -Uz add-zsh-hook add-zle-hook-widget
  add-zle-hook-widget line-finish _genslim_before_parsing
  add-zsh-hook preexec _genslim_after_parsing
  add-zsh-hook precmd _genslim_after_parsing
else
  disable -r export
fi
"""
"""``line-finish`` comes before a line is parsed, ``preexec`` after it, ``precmd`` also where the
line could not be parsed. ``zsh -c`` edits no line: it has an execution string."""


def shell_init(shell: Literal["bash", "zsh"], /) -> int:
    """Print a function for your shell that lets it run `export trt --fp16`.

    `export` is a shell builtin and hides the program of that name. The function sends the
    program's commands to the program and everything else to the builtin. Put this line into
    ~/.bashrc, or with the word zsh into ~/.zshrc:

    eval "$(genslim shell-init bash)"

    Assignments keep their meaning: what follows `=` is not split into words and `~` is expanded.
    The one exception is a zsh script that runs this line itself: write quotes there, as in
    export DIR="$HOME/x" NOW="$(date)". Scripts need none of this: `env export trt` always works.

    Parameters
    ----------
    shell:
        Your shell.
    """
    (point,) = entry_points(group="genslim.commands", name="export")
    commands = "|".join(command.name for command in point.load().commands)
    code = DISPATCH + (ZSH_HOOKS if shell == "zsh" else "")
    print(code.replace("COMMANDS", commands), end="")
    return 0

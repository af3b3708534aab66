"""`fca completions SHELL`: a static completion script, made from the commands themselves.

Static, so that a press of Tab starts no Python. The scripts in completions/ are this output; a test compares them.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from fcacli.cli import console
from fcacli.cli.border import command

Values = Literal["none", "files", "folders", "runs", "datasets"] | tuple[str, ...]


@dataclass(frozen=True)
class Flag:
    """One option: its spellings, its help, and what its value may be (None: it takes no value)."""

    names: tuple[str, ...]
    help: str
    values: Values | None


@dataclass(frozen=True)
class Command:
    """One command: what its positional arguments may be, and its options."""

    name: str
    help: str
    arguments: tuple[Values, ...]
    flags: tuple[Flag, ...]


@command
def completions(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell.", show_default=False)],
) -> None:
    """Print the completion script of a shell.

    Example: fca completions bash > ~/.local/share/bash-completion/completions/fca
    """
    console.print_text(script(shell).rstrip("\n"))


def script(shell: Literal["bash", "zsh", "fish"]) -> str:
    """The completion script of a shell."""
    writers = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return writers[shell](commands())


def commands() -> list[Command]:
    """Every command with its arguments and options, read off the functions behind them."""
    from fcacli.cli.app import app

    return [_command(str(entry.name), entry.callback) for entry in app.registered_commands]


def _command(name: str, body: Any) -> Command:
    arguments: list[Values] = []
    flags = []
    hints = get_type_hints(body, include_extras=True)
    for parameter in inspect.signature(body).parameters:
        kind, info = get_args(hints[parameter])[:2]
        kind = _value_type(kind)
        spellings = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
        names = tuple(name for spelling in spellings for name in spelling.split("/"))
        if not names:
            arguments.append(_values(parameter, kind))
            continue
        flags.append(Flag(names, _plain(info.help), None if kind is bool else _values(parameter, kind)))
    flags.append(Flag(("--help", "-h"), "Show help", None))
    return Command(name, _plain((inspect.getdoc(body) or "").split("\n\n")[0]), tuple(arguments), tuple(flags))


def _value_type(kind: Any) -> Any:
    """The type of one value: `int` for `int | None` and for `list[int] | None`."""
    if get_origin(kind) in (Union, UnionType):
        return _value_type(next(option for option in get_args(kind) if option is not type(None)))
    return get_args(kind)[0] if get_origin(kind) is list else kind


def _values(parameter: str, kind: Any) -> Values:
    if get_origin(kind) is Literal:
        return get_args(kind)
    if parameter == "reader":
        from fcacli.data.readers import READERS

        return tuple(READERS)
    if parameter == "only":
        from fcacli.workflows.benchmark.arms import ARMS

        return tuple(arm.name for arm in ARMS)
    if parameter == "fetch":
        from fcacli.evaluation.weights import WEIGHTS

        return tuple(WEIGHTS)
    if parameter == "base":
        from fcacli.model.bases import DEFAULTS

        return ("auto", *DEFAULTS)
    if parameter in ("run", "fork", "data"):
        return "runs" if parameter in ("run", "fork") else "datasets"
    return "none" if kind is not Path else "files" if parameter == "frames" else "folders"


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "").replace("'", "").split()).rstrip(".")


def _bash(commands: list[Command]) -> str:
    actions = {
        "files": "_fca_files -f",
        "folders": "_fca_files -d",
        "runs": '_fca_words "$(ls runs 2>/dev/null)"',
        "datasets": '_fca_words "$(ls data 2>/dev/null)"',
    }

    def action(values: Values) -> str:
        return actions[values] if isinstance(values, str) else f'_fca_words "{" ".join(values)}"'

    lines = [
        "# bash completion of fca, made by `fca completions bash`",
        "",
        "_fca_words() {",
        "    local IFS=$' \\n'",
        '    COMPREPLY+=($(compgen -W "$1" -- "$current"))',
        "}",
        "",
        "_fca_files() {",
        "    local IFS=$'\\n'",
        '    COMPREPLY+=($(compgen "$1" -- "$current"))',
        "}",
        "",
        "_fca() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
        "    COMPREPLY=()",
        "    if [[ $COMP_CWORD -eq 1 ]]; then",
        f'        _fca_words "{" ".join(c.name for c in commands)} --help --version"',
        "        return",
        "    fi",
        '    case "$command $previous" in',
    ]
    nothing = []
    for entry in commands:
        for flag in entry.flags:
            patterns = [f'"{entry.name} {name}"' for name in flag.names]
            if flag.values == "none":
                nothing += patterns
            elif flag.values is not None:
                lines.append(f"        {'|'.join(patterns)}) {action(flag.values)}; return ;;")
    lines.append(f"        {' | '.join(nothing)}) return ;;")
    lines += ["    esac", '    case "$command" in']
    for entry in commands:
        names = " ".join(name for flag in entry.flags for name in flag.names if name.startswith("--"))
        lines += [f"        {entry.name})", f'            if [[ $current == -* ]]; then _fca_words "{names}"; return; fi']
        lines += [f"            {action(values)}" for values in entry.arguments if values != "none"]
        lines.append("            ;;")
    return "\n".join([*lines, "    esac", "}", "", "complete -o filenames -F _fca fca", ""])


def _zsh(commands: list[Command]) -> str:
    actions = {
        "files": "_files",
        "folders": "_files -/",
        "runs": "_files -/ -W runs",
        "datasets": "_files -/ -W data",
        "none": " ",
    }

    def action(values: Values) -> str:
        return actions[values] if isinstance(values, str) else f"({' '.join(values)})"

    def quoted(text: str) -> str:
        return text.replace("[", "(").replace("]", ")").replace(":", "\\:")

    lines = [
        "#compdef fca",
        "# zsh completion of fca, made by `fca completions zsh`",
        "",
        "_fca() {",
        "    local -a commands",
        "    commands=(",
    ]
    lines += [f"        '{entry.name}:{quoted(entry.help)}'" for entry in commands]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe -t commands command commands",
        "        _arguments '--version[Show the version]' '--help[Show help]'",
        "        return",
        "    fi",
        "    local command=$words[2]",
        "    shift words",
        "    (( CURRENT-- ))",
        "    case $command in",
    ]
    for entry in commands:
        lines.append(f"        {entry.name})")
        lines.append("            _arguments \\")
        for flag in entry.flags:
            value = "" if flag.values is None else f":value:{action(flag.values)}"
            lines += [f"                '{name}[{quoted(flag.help)}]{value}' \\" for name in flag.names]
        lines += [f"                '{n}:argument:{action(values)}' \\" for n, values in enumerate(entry.arguments, 1)]
        lines[-1] = lines[-1].removesuffix(" \\")
        lines.append("            ;;")
    return "\n".join([*lines, "    esac", "}", "", '_fca "$@"', ""])


def _fish(commands: list[Command]) -> str:
    actions = {
        "files": "-r -F",
        "folders": "-x -a '(__fish_complete_directories)'",
        "runs": "-x -a '(ls runs 2>/dev/null)'",
        "datasets": "-x -a '(ls data 2>/dev/null)'",
        "none": "-x",
    }

    def action(values: Values) -> str:
        return actions[values] if isinstance(values, str) else f"-x -a '{' '.join(values)}'"

    lines = [
        "# fish completion of fca, made by `fca completions fish`",
        "",
        "complete -c fca -f",
        "complete -c fca -n __fish_use_subcommand -l version -d 'Show the version'",
        "complete -c fca -n __fish_use_subcommand -s h -l help -d 'Show help'",
    ]
    for entry in commands:
        lines.append(f"complete -c fca -n __fish_use_subcommand -a {entry.name} -d '{entry.help}'")
        seen = f"complete -c fca -n '__fish_seen_subcommand_from {entry.name}'"
        lines += [f"{seen} {action(values).removeprefix('-r ')}" for values in entry.arguments if values != "none"]
        for flag in entry.flags:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names)
            value = "" if flag.values is None else f" {action(flag.values)}"
            lines.append(f"{seen} {names} -d '{flag.help}'{value}")
    return "\n".join([*lines, ""])

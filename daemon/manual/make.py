#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual and the shells' completions, made from what the program says of itself and from the shipped settings file, so that
they cannot drift:  make.py PROGRAM SETTINGS GUIDE DIRECTORY"""
import json
import pathlib
import re
import subprocess
import sys

PAGE = '.TH {name} {section} "" "sipward {version}" "SIP edge protection"\n'
FILES = {"--config", "--state", "--socket", "--shadow", "CAPTURE", "FILE"}  # whose values are names of files


def roff(text):
    """Plain text for a line of roff: no character of it is a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return "\\&" + text if text.startswith(".") else text


def ascii_only(text):
    for character in text:
        if ord(character) > 126:
            sys.exit(f"make.py: {character!r} in {text!r}: the manual is plain ASCII")
    return text


def choices(option):
    found = re.search(r"\{(.*)\}", option["type"])
    return found[1].split(",") if found else []


def positional(option):
    return not option["names"]


def visible(command):
    """Its options without --help, which all have."""
    return [option for option in command["options"] if "--help" not in option["names"]]


# ---- sipward(8)

def value(option):
    return "|".join(choices(option)) or "VALUE"


def usage(command):
    words = [f"\\fBsipward {roff(command['name'])}\\fR"]
    for option in sorted(visible(command), key=lambda option: not positional(option)):
        if positional(option):
            word = f"\\fI{roff(option['positional'])}\\fR" + ("..." if option["many"] else "")
        else:
            word = f"\\fB{roff(option['names'][-1])}\\fR" + ("" if option["flag"] else f" \\fI{roff(value(option))}\\fR")
        words.append(word if option["required"] else f"[{word}]")
    return " ".join(words)


def option_lines(option):
    if positional(option):
        head = f"\\fI{roff(option['positional'])}\\fR"
    else:
        names = ", ".join(f"\\fB{roff(name)}\\fR" for name in option["names"])
        head = names + ("" if option["flag"] else f" \\fI{roff(value(option))}\\fR")
    text = option["description"].rstrip(".")
    default = option["default"].strip('"')
    if default and not option["flag"]:
        text += f" (default: {default})"
    return f".TP\n{head}\n{roff(text)}.\n"


def manual(described, guide):
    commands = [command for command in described["commands"] if command["name"] and not command["group"]]
    page = PAGE.format(name="SIPWARD", section=8, version=described["version"])
    page += ".SH NAME\nsipward \\- " + roff("keeps scanners and floods away from SIP servers") + "\n.SH SYNOPSIS\n.nf\n"
    page += "".join(f"\\fBsipward {roff(command['name'])}\\fR ...\n" for command in commands) + ".fi\n"
    before, after = guide.split(".\\\" COMMANDS\n")
    page += before + ".SH COMMANDS\nEvery command takes \\fB\\-\\-help\\fR.\n"
    for command in commands:
        page += f".SS {usage(command)}\n{roff(command['description'])}\n"
        page += "".join(map(option_lines, sorted(visible(command), key=lambda option: not positional(option))))
    page += f".SH EXIT STATUS\n{roff(described['exit_codes'].strip().removeprefix('Exit codes: '))}\n"
    return page + after


# ---- sipward.yaml(5)

def settings_entries(text):
    """(dotted key, value or None for a section, comment) of every key of the shipped file, in its order; the file's own comment first."""
    comment, entries, path = [], [], []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        if not stripped:
            if comment:  # it stands by itself
                entries.append(("", None, "\n".join(comment)))
                comment = []
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        key, _, shown = stripped.partition(":")
        path = path[:depth] + [key]
        entries.append((".".join(path), shown.strip() or None, " ".join(comment)))
        comment = []
    return entries


def settings_manual(version, text):
    page = PAGE.format(name="SIPWARD.YAML", section=5, version=version)
    page += ".SH NAME\nsipward.yaml \\- settings of sipward(8)\n.SH SYNOPSIS\n/etc/sipward/sipward.yaml\n.SH DESCRIPTION\n"
    page += roff("The file is YAML, read strictly: unknown keys, wrong units and impossible values are refused with their line and column. "
                 "The smallest file that works names the interface that faces the internet:") + "\n.PP\n.RS\nports: {outside: eth0}\n.RE\n"
    for key, shown, comment in settings_entries(text):
        if not key:
            page += ".PP\n" + "\n.br\n".join(map(roff, comment.splitlines())) + "\n"
            continue
        if "." not in key:
            page += f".SH {roff(key.upper())}\n"
            if shown is None:
                page += f"{roff(comment)}\n" if comment else ""
                continue
        if shown is None:
            page += f".SS {roff(key)}\n{roff(comment)}\n"
        else:
            page += f".TP\n\\fB{roff(key)}\\fR\n{roff(comment)}\n"
    page += (".SH FILES\n.TP\n/etc/sipward/sipward.yaml\nThe settings.\n.SH SEE ALSO\n\\fBsipward\\fR(8)\n"
             ".PP\n\\fBsipward check\\fR prints the settings in effect; \\fBsipward replay \\-\\-shadow\\fR tells what others would do.\n")
    return page


# ---- completions

def names_of(command):
    return " ".join(name for option in command["options"] for name in option["names"])


def bash(described):
    commands = [command for command in described["commands"] if command["name"]]
    top = " ".join(command["name"] for command in commands if " " not in command["name"])
    lines = ["# bash completion for sipward(8). Made by its build.", "_sipward() {",
             '  local cur=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=""',
             "  COMPREPLY=()",
             f'  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "{top} --help --version" -- "$cur")); return; fi',
             '  case "$command ${COMP_WORDS[2]}" in']
    for group in (command for command in commands if command["group"]):
        below = [command["name"].split(" ", 1)[1] for command in commands if command["name"].startswith(group["name"] + " ")]
        lines.append(f'    {" | ".join(chr(34) + group["name"] + " " + name + chr(34) for name in below)}) command="$command ${{COMP_WORDS[2]}}" ;;')
        lines.append(f'    "{group["name"]} "*) COMPREPLY=($(compgen -W "{" ".join(below)}" -- "$cur")); return ;;')
    lines += ["  esac", '  case "$command $previous" in']

    for command in commands:
        for option in command["options"]:
            for name in option["names"]:
                if choices(option):
                    lines.append(f'    "{command["name"]} {name}") COMPREPLY=($(compgen -W "{" ".join(choices(option))}" -- "$cur")); return ;;')
                elif FILES & {name}:
                    lines.append(f'    "{command["name"]} {name}") COMPREPLY=($(compgen -f -- "$cur")); return ;;')
    lines += ["  esac", '  case "$command" in']
    for command in commands:
        files = any(positional(option) and option["positional"] in FILES for option in command["options"])
        lines.append(f'    "{command["name"]}") words="{names_of(command)}"'
                     + ('; [[ $cur == -* ]] || { COMPREPLY=($(compgen -f -- "$cur")); return; }' if files else "") + " ;;")
    lines += ["  esac", '  COMPREPLY=($(compgen -W "$words" -- "$cur"))', "}", "complete -o filenames -F _sipward sipward", ""]
    return "\n".join(lines)


def zsh_text(text):
    return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


def zsh_option(option):
    if option["flag"]:
        return [f"'{name}[{zsh_text(option['description'])}]'" for name in option["names"]]
    kind = f"({' '.join(choices(option))})" if choices(option) else "_files" if FILES & {*option["names"], option["positional"]} else " "
    if positional(option):
        return [f"'{'*' if option['many'] else ''}:{zsh_text(option['positional'])}:{kind}'"]
    return [f"'{name}[{zsh_text(option['description'])}]:value:{kind}'" for name in option["names"]]


def zsh(described):
    commands = [command for command in described["commands"] if command["name"]]
    lines = ["#compdef sipward", "# Made by its build.", "_sipward() {", "  local -a commands", "  commands=("]
    lines += [f"    '{command['name']}:{zsh_text(command['description'])}'" for command in commands if " " not in command["name"]]
    lines += ["  )", "  if (( CURRENT == 2 )); then _describe command commands; return; fi", "  local command=$words[2]"]
    for group in (command for command in commands if command["group"]):
        below = [command["name"].split(" ", 1)[1] for command in commands if command["name"].startswith(group["name"] + " ")]
        lines.append(f'  if [[ $command == {group["name"]} ]]; then\n    if (( CURRENT == 3 )); then compadd {" ".join(below)}; return; fi\n'
                     '    command="$command $words[3]"; shift words; (( CURRENT-- ))\n  fi')
    lines += ["  shift words; (( CURRENT-- ))", '  case $command in']
    for command in commands:
        if command["group"]:
            continue
        words = " ".join(word for option in command["options"] for word in zsh_option(option))
        lines.append(f'    "{command["name"]}") _arguments {words} ;;')
    lines += ["  esac", "}", '_sipward "$@"', ""]
    return "\n".join(lines)


def main():
    program, settings, guide, directory = sys.argv[1:]
    described = json.loads(subprocess.run([program, "describe-commands"], check=True, capture_output=True, text=True).stdout)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("sipward.8", manual(described, pathlib.Path(guide).read_text(encoding="utf-8"))),
                       ("sipward.yaml.5", settings_manual(described["version"], pathlib.Path(settings).read_text(encoding="utf-8"))),
                       ("sipward.bash", bash(described)), ("_sipward", zsh(described))):
        (directory / name).write_text(ascii_only(text), encoding="ascii")


if __name__ == "__main__":
    main()

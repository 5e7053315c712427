"""Scripts that complete experiments, flags and values in a shell, made of the settings.

source <(jaxinv completion bash)       # in ~/.bashrc
source <(jaxinv completion zsh)        # in ~/.zshrc, after compinit
"""

from collections.abc import Callable, Mapping, Sequence

from jaxinv.errors import UsageError
from jaxinv.studies import experiment
from jaxinv.studies.experiment import Experiment, Setting

_LONGEST = 72  # characters of a help text that a list of flags shows


def script(shell: str) -> str:
    """Returns the script of a shell.

    Raises:
      UsageError: there is none for it.
    """
    if shell not in _SHELLS:
        raise UsageError(f"completion {shell}: expected one of {', '.join(_SHELLS)}.")
    return _SHELLS[shell]([experiment.find(name) for name in experiment.MODULES])


def _bash(experiments: Sequence[Experiment]) -> str:
    flags: dict[str, str] = {}
    values: dict[str, str] = {}
    for each in experiments:
        flags[each.name] = " ".join(flag for one in each.settings.values() for flag in _flags(one))
        values |= {
            f"{each.name}--{one.name}": " ".join(one.choices)
            for one in each.settings.values()
            if one.choices is not None
        }
    return _filled(
        _BASH, experiments, flags=_cases(flags, "echo '{}'"), values=_cases(values, "echo '{}'")
    )


def _zsh(experiments: Sequence[Experiment]) -> str:
    flags = {
        each.name: " \\\n      ".join(f"'{line}'" for line in _arguments(each))
        for each in experiments
    }
    names = "\n".join(
        f"    '{each.name}:{_safe(experiment.summary(each.name))}'" for each in experiments
    )
    return _filled(_ZSH, experiments, described=names, flags=_cases(flags, "_arguments {}"))


_SHELLS: Mapping[str, Callable[[Sequence[Experiment]], str]] = {"bash": _bash, "zsh": _zsh}


def _filled(template: str, experiments: Sequence[Experiment], **parts: str) -> str:
    parts["names"] = " ".join([*(each.name for each in experiments), "sweep", "completion"])
    parts["swept"] = " ".join(each.name for each in experiments if each.leaves_runs)
    parts["shells"] = " ".join(_SHELLS)
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part)
    return template


def _cases(texts: Mapping[str, str], command: str) -> str:
    return "\n".join(f"    {name}) {command.format(text)} ;;" for name, text in texts.items())


def _flags(each: Setting) -> list[str]:
    return [f"--{each.name}", f"--no{each.name}"] if each.kind is bool else [f"--{each.name}="]


def _arguments(found: Experiment) -> list[str]:
    """Returns what zsh's `_arguments` takes for each flag: its help, and what its value may be."""
    lines = ["--help[Show all flags.]"]
    for each in found.settings.values():
        value = f"({' '.join(each.choices)})" if each.choices is not None else "_files"
        told = "" if each.kind is bool else f":{each.name}:{value}"
        lines += [f"{flag}[{_safe(each.text)}]{told}" for flag in _flags(each)]
    return lines


def _safe(text: str) -> str:
    """Returns the beginning of a text, without characters that mean something to zsh."""
    plain = "".join(letter for letter in text if letter not in "'[]:\\`$\"")
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST].rpartition(' ')[0]} ..."


_BASH = """\
# Completion of jaxinv in bash, made by: jaxinv completion bash

_jaxinv_flags() {
  case $1 in
@flags@
  esac
}

_jaxinv_values() {
  case $1 in
@values@
  esac
}

_jaxinv() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} at=1 flag= kept=
  [[ ${COMP_WORDS[1]} != sweep ]] || at=2
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '@names@' -- "$word"))
  elif ((COMP_CWORD == 2 && at == 2)); then
    COMPREPLY=($(compgen -W '@swept@' -- "$word"))
  elif [[ ${COMP_WORDS[1]} == completion ]]; then
    COMPREPLY=($(compgen -W '@shells@' -- "$word"))
  else
    if [[ $word == --*=* ]]; then # where the shell does not divide words at =
      flag=${word%%=*} kept=${word%%=*}= word=${word#*=}
    elif [[ $word == = ]]; then
      flag=$before word=
    elif [[ $before == = ]]; then
      flag=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if [[ -n $flag ]]; then # without values that are known: names of files, by the shell
      COMPREPLY=($(compgen -P "$kept" -W "$(_jaxinv_values "${COMP_WORDS[at]}$flag")" -- "$word"))
    else
      COMPREPLY=($(compgen -W "--help $(_jaxinv_flags "${COMP_WORDS[at]}")" -- "$word"))
    fi
  fi
  COMPREPLY=("${COMPREPLY[@]/%/ }")
  COMPREPLY=("${COMPREPLY[@]/%= /=}")
}

complete -o default -o nospace -F _jaxinv jaxinv
"""

_ZSH = """\
#compdef jaxinv
# Completion of jaxinv in zsh, made by: jaxinv completion zsh

_jaxinv() {
  local -a names
  names=(
@described@
    'sweep:Many runs of one experiment'
    'completion:Complete all of this in bash or zsh'
  )
  if (( CURRENT == 2 )); then
    _describe experiment names
    return
  fi
  shift words
  (( CURRENT -= 1 ))
  if [[ $words[1] == sweep ]]; then
    if (( CURRENT == 2 )); then
      compadd @swept@
      return
    fi
    shift words
    (( CURRENT -= 1 ))
  fi
  case $words[1] in
@flags@
    completion) compadd @shells@ ;;
  esac
}

if [[ $funcstack[1] == _jaxinv ]]; then
  _jaxinv "$@"
else
  compdef _jaxinv jaxinv
fi
"""

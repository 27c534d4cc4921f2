/** `weft completion SHELL`: prints the script that makes a shell complete weft's command line. */
import { Argument, type Command } from 'commander';
import { write } from './print.ts';
import { verb } from './verb.ts';

type Shell = keyof typeof scripts;

export function completion(program: Command): void {
  verb(program, 'completion', {
    summary: 'print a script with which a shell completes verbs, options, kinds and names',
    examples: [
      'source <(weft completion bash)   # now; or for all shells from now on:',
      'weft completion bash > /etc/bash_completion.d/weft',
      'weft completion zsh > /usr/local/share/zsh/site-functions/_weft',
      'weft completion fish > /etc/fish/completions/weft.fish',
    ],
  })
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(scripts)))
    .action((shell: Shell) => write(scripts[shell]));
}

/** The scripts know nothing of weft: `weft __complete` (complete.ts) says what the last word can become. */
const scripts = {
  // Bash replaces only what follows the last of COMP_WORDBREAKS, such as `=`; weft completes the whole word.
  bash: `# Completes the command line of weft in bash.
_weft() {
  local line="\${COMP_LINE:0:COMP_POINT}" current="\${COMP_WORDS[COMP_CWORD]}" before word
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  [[ $current == [=:] ]] && current=""
  before="\${words[-1]%"$current"}"
  COMPREPLY=()
  while IFS=$'\\t' read -r word _; do
    if [[ $word == :files ]]; then
      compopt -o default
      return
    fi
    COMPREPLY+=("\${word#"$before"}")
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
}
complete -F _weft weft
`,
  zsh: `#compdef weft
# Completes the command line of weft in zsh.
_weft() {
  local line
  local -a found
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      _files
      return
    fi
    line="\${line//:/\\\\:}"
    found+=("\${line/$'\\t'/:}")
  done < <("\${words[1]}" __complete "\${(@Q)words[2,CURRENT]}" 2>/dev/null)
  _describe weft found
}
if [[ $funcstack[1] == _weft ]]; then _weft "$@"; else compdef _weft weft; fi
`,
  fish: `# Completes the command line of weft in fish.
function __weft_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$found[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c weft -f -a '(__weft_complete)'
`,
} as const;

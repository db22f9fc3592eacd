import type { Command, Option } from 'commander';
import { UsageError } from './context.ts';

/** The script by which a shell (bash, zsh, fish) completes the names, options and words of commands. */
export function completionScript(shell: string, commands: readonly Command[]): string {
  const scripts: Readonly<Record<string, (commands: readonly Described[]) => string>> = { bash, zsh, fish };
  const script = scripts[shell];
  if (!script) throw new UsageError(`expected bash, zsh or fish, found ${shell}`);
  return script(commands.map(describe));
}

/** What the scripts know of a command. */
type Described = {
  readonly name: string;
  readonly text: string;
  /** Fixed words its argument may be, none when it takes files. */
  readonly words: readonly string[];
  readonly options: readonly {
    readonly flags: readonly string[];
    readonly text: string;
    readonly takes: boolean;
  }[];
};

function describe(command: Command): Described {
  const help = command.createHelp();
  return {
    name: command.name(),
    text: command.description(),
    words: command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
    options: help.visibleOptions(command).map((option: Option) => ({
      flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
      text: option.description,
      takes: option.required || option.optional,
    })),
  };
}

const flagsOf = ({ options }: Described) => options.flatMap(({ flags }) => flags);

function bash(commands: readonly Described[]): string {
  const taking = [
    ...new Set(commands.flatMap((c) => c.options.filter((o) => o.takes).flatMap((o) => o.flags))),
  ];
  const cases = commands.map((command) => {
    const words = command.words.length > 0 ? `words='${command.words.join(' ')}'` : 'files=1';
    return `    ${command.name}) flags='${flagsOf(command).join(' ')}'; ${words} ;;`;
  });
  return `# bash completion of roboflow
_roboflow() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} flags='' words='' files=''
  COMPREPLY=()
  if [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W '${commands.map(({ name }) => name).join(' ')} help --help --version' -- "$current"))
    return
  fi
  case $previous in
    ${taking.join('|')}) compopt -o default; return ;;
  esac
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
  esac
  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$current"))
  elif [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$current"))
  elif [[ -n $files ]]; then compopt -o default; fi
}
complete -F _roboflow roboflow
`;
}

function zsh(commands: readonly Described[]): string {
  const quote = (text: string) => text.replaceAll(/([[\]:\\])/g, '\\$1').replaceAll("'", "'\\''");
  const cases = commands.map(({ name, options, words }) => {
    const specs = options.map(({ flags, text, takes }) => {
      const one = flags.length > 1 ? `'(${flags.join(' ')})'{${flags.join(',')}}` : `'${flags[0]}'`;
      return `${one}'[${quote(text)}]${takes ? ':value:_files' : ''}'`;
    });
    const rest = words.length > 0 ? `'*:word:(${words.join(' ')})'` : "'*:file:_files'";
    return `    ${name}) _arguments ${[...specs, rest].join(' ')} ;;`;
  });
  return `#compdef roboflow
# zsh completion of roboflow
_roboflow() {
  local -a commands
  commands=(
${commands.map(({ name, text }) => `    '${name}:${quote(text)}'`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join('\n')}
  esac
}
if [[ $funcstack[1] == _roboflow ]]; then _roboflow "$@"; else compdef _roboflow roboflow; fi
`;
}

function fish(commands: readonly Described[]): string {
  const quote = (text: string) => text.replaceAll('\\', '\\\\').replaceAll("'", "\\'");
  const lines = commands.flatMap(({ name, text, options, words }) => {
    const within = `complete -c roboflow -n '__fish_seen_subcommand_from ${name}'`;
    return [
      `complete -c roboflow -n __fish_use_subcommand -f -a ${name} -d '${quote(text)}'`,
      ...options.map(({ flags, text: about, takes }) => {
        const names = flags.map((flag) =>
          flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
        );
        return `${within} ${names.join(' ')}${takes ? ' -r' : ''} -d '${quote(about)}'`;
      }),
      ...(words.length > 0 ? [`${within} -f -a '${words.join(' ')}'`] : []),
    ];
  });
  return `# fish completion of roboflow\n${lines.join('\n')}\n`;
}

import { Argument, Command } from 'commander';
import { type CliContext, wholeNumber } from './context.ts';

/**
 * Every command with its arguments, options and examples, in the order of the help. What a command does is loaded when
 * it is run: all of it takes half a second to load, and the help, the version or a mistyped option need none of it.
 */
export function createCommands(context: CliContext, startService: () => Promise<void>): Command[] {
  return [
    start(startService),
    convert(context),
    enqueue(context),
    status(context),
    control(context, 'cancel', 'stop a dataset or one job; what is converted stays'),
    control(context, 'retry', 'run again what failed or was cancelled'),
    watch(context),
    inspect(context),
    verify(context),
    report(context),
    schema(context),
    completion(context),
  ];
}

const JSON_OPTION = ['--json', 'machine-readable output'] as const;

function examples(...lines: readonly string[]): string {
  return `\nExample${lines.length > 1 ? 's' : ''}:\n${lines.map((line) => `  $ ${line}`).join('\n')}`;
}

/** `roboflow start`: the service, as `npm start` runs it. */
function start(run: () => Promise<void>): Command {
  return new Command('start')
    .description(
      'run the service: one primary (API, metrics) and WORKERS workers, set up by environment variables',
    )
    .addHelpText('after', examples('roboflow start', 'WORKERS=0 roboflow start    # API only'))
    .action(run);
}

/** `roboflow convert RECORDING… --config FILE --out URL`: the service's conversion in this process, without Redis. */
function convert(context: CliContext): Command {
  return new Command('convert')
    .description('convert recordings into a dataset here and now, without Redis: for trying a config')
    .argument('<recording...>', 'files, rosbag2 folders or URLs')
    .requiredOption('-c, --config <file>', 'dataset config (YAML or JSON)')
    .requiredOption('-o, --out <url>', 'folder or URL of the dataset')
    .option('-t, --task <text>', 'task of these recordings; wins over the config')
    .option('-d, --dataset <id>', 'name of the dataset (default: last part of --out)')
    .option('--json', "print each episode's manifest as one line of JSON")
    .addHelpText(
      'after',
      examples('roboflow convert demo.mcap --config robot.yaml --out ./dataset --task "Pick up the cup."'),
    )
    .action(async (recordings, options) =>
      (await import('./convert.ts')).convertHere(recordings, options, context),
    );
}

/** `roboflow enqueue … --dataset ID --config FILE --out URL`: hands recordings to the service's queue. */
function enqueue(context: CliContext): Command {
  return new Command('enqueue')
    .description('hand recordings to the running service: files, globs, prefixes, or lists of them')
    .argument(
      '<recordings...>',
      'file, glob, folder or URL prefix; @file, or - for standard input: a list of them, one a line, or of JSON {"source", "task"?}',
    )
    .requiredOption('-d, --dataset <id>', 'id of the dataset')
    .requiredOption('-c, --config <file>', 'dataset config (YAML or JSON)')
    .requiredOption('-o, --out <url>', 'folder or URL of the dataset')
    .option('-t, --task <text>', 'task of recordings that have none of their own')
    .option('-p, --priority <n>', '0 is taken first, 9 last', wholeNumber(0, 9))
    .option('-w, --wait', 'wait until the run has ended; exit code 1 unless it is completed')
    .option('-n, --dry-run', 'plan every recording and print what would happen; needs no Redis')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        'roboflow enqueue "s3://raw/day1/*.mcap" --dataset bottles --config robot.yaml --out s3://datasets/bottles',
        'roboflow enqueue @recordings.jsonl --dataset bottles --config robot.yaml --out ./bottles --wait',
        'find /data -name "*.bag" | roboflow enqueue - --dataset bottles --config robot.yaml --out ./bottles --dry-run',
      ),
    )
    .action(async (patterns, options) => (await import('./enqueue.ts')).enqueue(patterns, options, context));
}

/** `roboflow status [DATASET|JOB]`: what the API answers, for people or with `--json`. */
function status(context: CliContext): Command {
  return new Command('status')
    .description('show datasets, one dataset or one job')
    .argument('[id]', 'dataset or job')
    .option('-w, --watch', 'draw it again in place until it has ended; with --json, a line for every change')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        'roboflow status',
        'roboflow status bottles --watch',
        'roboflow status bottles.ep_001-0f3a --json',
      ),
    )
    .action(async (id, options) => (await import('./status.ts')).showStatus(id, options, context));
}

/** `roboflow cancel|retry DATASET|JOB`. */
function control(context: CliContext, name: 'cancel' | 'retry', description: string): Command {
  return new Command(name)
    .description(description)
    .argument('<id>', 'dataset or job')
    .option(...JSON_OPTION)
    .addHelpText('after', examples(`roboflow ${name} bottles`, `roboflow ${name} bottles.ep_001-0f3a`))
    .action(async (id, options) => (await import('./control.ts')).control(name, id, options, context));
}

/** `roboflow watch PREFIX --dataset ID …`: the service enqueues what appears there; without a prefix, lists watches. */
function watch(context: CliContext): Command {
  return new Command('watch')
    .description('let the service enqueue recordings as they appear below a prefix, each when it is complete')
    .argument('[prefix]', 'folder or URL prefix; left out: list what is watched')
    .option('-d, --dataset <id>', 'id of the dataset')
    .option('-c, --config <file>', 'dataset config (YAML or JSON)')
    .option('-o, --out <url>', 'folder or URL of the dataset')
    .option('--every <seconds>', 'time between two looks', wholeNumber(1, 86_400))
    .option('-p, --priority <n>', '0 is taken first, 9 last', wholeNumber(0, 9))
    .option('--end <id>', 'end a watch')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        'roboflow watch s3://raw/ --dataset bottles --config robot.yaml --out s3://datasets/bottles',
        'roboflow watch',
        'roboflow watch --end bottles.0f3a5c7e9b1d',
      ),
    )
    .action(async (prefix, options) =>
      (await import('./watch-prefix.ts')).watchPrefix(prefix, options, context),
    );
}

/** `roboflow inspect RECORDING`: topics, types, rates, clocks, gaps. */
function inspect(context: CliContext): Command {
  return new Command('inspect')
    .description('show what a recording holds: topics, types, rates, clocks, gaps')
    .argument('<recording>', 'file, rosbag2 folder or URL')
    .option('-s, --suggest', 'print a commented config to start from')
    .option('-p, --pictures <folder>', 'write the first picture of every camera there, as PNG')
    .option(...JSON_OPTION)
    .addHelpText(
      'after',
      examples(
        'roboflow inspect demo.mcap',
        'roboflow inspect demo.mcap --suggest > robot.yaml',
        'roboflow inspect demo.mcap --pictures /tmp/look',
        'roboflow inspect s3://raw/day1/ep_001.bag --json',
      ),
    )
    .action(async (recording, options) =>
      (await import('./inspect.ts')).inspect(recording, options, context),
    );
}

/** `roboflow verify DATASET_URL`: re-reads a dataset and states every rule it keeps or breaks. */
function verify(context: CliContext): Command {
  return new Command('verify')
    .description('re-read a published dataset and check every rule of its format')
    .argument('<dataset>', 'folder or URL of the dataset')
    .option('--json', 'machine-readable output: {ok, checks: [{id, ok, message}]}')
    .addHelpText(
      'after',
      examples('roboflow verify demo/dataset', 'roboflow verify s3://datasets/bottles --json'),
    )
    .action(async (dataset, options) => (await import('./verify.ts')).verifyThere(dataset, options, context));
}

/** `roboflow report DATASET|MANIFEST`: an HTML page of one episode. */
function report(context: CliContext): Command {
  return new Command('report')
    .description('make an HTML page of an episode: frames, curves, alignment')
    .argument(
      '<dataset|manifest>',
      'folder or URL of the dataset, or of a manifest under its .roboflow/episodes/',
    )
    .option('-e, --episode <number>', 'which episode, from 0', wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .option('--pictures <number>', 'pictures a camera', wholeNumber(1, 200), 12)
    .option(
      '-o, --out <file>',
      'where to write the page; - for standard output (default: episode-<number>.html)',
    )
    .option('--json', 'machine-readable output: {path, key, episode}')
    .addHelpText(
      'after',
      examples(
        'roboflow report demo/dataset',
        'roboflow report s3://datasets/bottles --episode 17 --out 17.html',
      ),
    )
    .action(async (location, options) => (await import('./report.ts')).report(location, options, context));
}

/** `roboflow schema`: the JSON Schema of the dataset config, for editors. */
function schema(context: CliContext): Command {
  return new Command('schema')
    .description('print the JSON Schema of the dataset config, for editors')
    .option('--json', 'the same: the output is JSON anyway')
    .addHelpText(
      'after',
      `${examples('roboflow schema > roboflow.schema.json')}\n\n` +
        'An editor with the YAML language server checks and completes a config that begins with\n' +
        '  # yaml-language-server: $schema=roboflow.schema.json',
    )
    .action(async () => (await import('./schema.ts')).printSchema(context));
}

/** `roboflow completion bash|zsh|fish`: a script for the shell, made from the commands. */
function completion(context: CliContext): Command {
  return new Command('completion')
    .description('print a script that makes the shell complete commands and options')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .addHelpText(
      'after',
      examples(
        'source <(roboflow completion bash)                               # this shell; in ~/.bashrc: every one',
        'roboflow completion zsh > "${fpath[1]}/_roboflow"                  # then start a new shell',
        'roboflow completion fish > ~/.config/fish/completions/roboflow.fish',
      ),
    )
    .action(async (shell: string, _, command: Command) => {
      const { completionScript } = await import('./completion.ts');
      context.out.write(completionScript(shell, command.parent?.commands ?? []));
    });
}

#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { type CliContext, paint, printError, UsageError } from './cli/context.ts';
import { settings } from './cli/settings.ts';
import { loadEnvFile } from './config.ts';
import { version } from './conversion/version.ts';
import { CanceledError, toError } from './errors.ts';

/** Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. */
const FAILED = 1;
const WRONG_USE = 2;
const INTERRUPTED = 130;

type MakeCommand = (context: CliContext, program: Command) => Promise<Command>;

/** The commands in the order of the help. Each loads what it needs and no more: loading all takes half a second. */
const COMMANDS: Readonly<Record<string, MakeCommand>> = {
  start: async () => (await import('./cli/start.ts')).startCommand(startService),
  convert: async (context) => (await import('./cli/convert.ts')).convertCommand(context),
  enqueue: async (context) => (await import('./cli/enqueue.ts')).enqueueCommand(context),
  status: async (context) => (await import('./cli/status.ts')).statusCommand(context),
  cancel: async (context) => (await import('./cli/control.ts')).cancelCommand(context),
  retry: async (context) => (await import('./cli/control.ts')).retryCommand(context),
  watch: async (context) => (await import('./cli/watch-prefix.ts')).watchCommand(context),
  inspect: async (context) => (await import('./cli/inspect.ts')).inspectCommand(context),
  verify: async (context) => (await import('./cli/verify.ts')).verifyCommand(context),
  report: async (context) => (await import('./cli/report.ts')).reportCommand(context),
  schema: async (context) => (await import('./cli/schema.ts')).schemaCommand(context),
  completion: async (context, program) =>
    (await import('./cli/completion.ts')).completionCommand(context, () => program),
};

/** The command named by the first argument; all of them for the help, for what is mistyped, and to complete names. */
async function makeCommands(context: CliContext, program: Command): Promise<Command[]> {
  const name = process.argv[2] ?? '';
  const alone = Object.hasOwn(COMMANDS, name) && name !== 'completion' ? COMMANDS[name] : undefined;
  return await Promise.all((alone ? [alone] : Object.values(COMMANDS)).map((make) => make(context, program)));
}

async function startService(): Promise<void> {
  const { startPrimary } = await import('./cluster/primary.ts');
  await startPrimary(settings());
}

async function main(): Promise<void> {
  const abort = new AbortController();
  const context: CliContext = { out: process.stdout, err: process.stderr, signal: abort.signal };
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // A reader that went away (`| head`) ends the command quietly.
      if (error.code === 'EPIPE') return abort.abort(new BrokenPipe('cancelled', { cause: error }));
      if (stream === process.stdout) context.err.write(`error: cannot write the output: ${error.message}\n`);
      process.exit(FAILED);
    });
  }
  const program: Command = new Command('roboflow')
    .description('Converts robot recordings (MCAP, ROS bags) into verified LeRobot datasets.')
    .version(version)
    .showHelpAfterError('(run with --help for the options)')
    .enablePositionalOptions()
    .configureHelp({ styleTitle: (title) => paint(context.out, 'bold', title) })
    .addHelpText(
      'after',
      '\nExamples:\n' +
        '  $ roboflow inspect run.mcap --suggest > robot.yaml\n' +
        '  $ roboflow convert run.mcap --config robot.yaml --out ./dataset\n' +
        '  $ roboflow enqueue "s3://raw/*.mcap" --dataset arm --config robot.yaml --out s3://datasets/arm --wait\n\n' +
        'Exit codes: 0 done, 1 failed, 2 wrong use. `roboflow help COMMAND` tells more of one.',
    );
  const commands = await makeCommands(context, program);
  for (const command of commands) program.addCommand(command.copyInheritedSettings(program));
  for (const command of [program, ...commands]) command.exitOverride();
  // The service has its own handling of signals; every other command is stopped by the first.
  program.hook('preAction', (_, action) => {
    if (action.name() === 'start') return;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => abort.abort(new CanceledError('cancelled')));
    }
  });
  try {
    loadEnvFile();
    await program.parseAsync();
  } catch (thrown) {
    process.exitCode = exitCodeOf(toError(thrown), context);
  }
}

/** Nobody reads the output any more. */
class BrokenPipe extends CanceledError {}

function exitCodeOf(error: Error, context: CliContext): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE;
  if (context.signal.reason instanceof BrokenPipe) return FAILED;
  if (error instanceof CanceledError) {
    context.err.write('interrupted\n');
    return INTERRUPTED;
  }
  printError(context, error.message);
  return error instanceof UsageError ? WRONG_USE : FAILED;
}

await main();

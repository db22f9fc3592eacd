#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { cancelCommand, retryCommand } from './cli/control.ts';
import { completionCommand } from './cli/completion.ts';
import { type CliContext, paint, printError, UsageError } from './cli/context.ts';
import { convertCommand } from './cli/convert.ts';
import { enqueueCommand } from './cli/enqueue.ts';
import { inspectCommand } from './cli/inspect.ts';
import { reportCommand } from './cli/report.ts';
import { schemaCommand } from './cli/schema.ts';
import { settings } from './cli/settings.ts';
import { startCommand } from './cli/start.ts';
import { statusCommand } from './cli/status.ts';
import { verifyCommand } from './cli/verify.ts';
import { watchCommand } from './cli/watch-prefix.ts';
import { loadEnvFile } from './config.ts';
import { version } from './conversion/version.ts';
import { CanceledError, toError } from './errors.ts';

/** Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. */
const FAILED = 1;
const WRONG_USE = 2;
const INTERRUPTED = 130;

/** Loaded only when needed: the other commands need neither HTTP server nor queue workers. */
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
  const commands = [
    startCommand(startService),
    convertCommand(context),
    enqueueCommand(context),
    statusCommand(context),
    cancelCommand(context),
    retryCommand(context),
    watchCommand(context),
    inspectCommand(context),
    verifyCommand(context),
    reportCommand(context),
    schemaCommand(context),
    completionCommand(context, () => program),
  ];
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

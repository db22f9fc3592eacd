// before the shapes are made
import './jitless.ts';
import { Command, CommanderError } from 'commander';
import { version } from '../conversion/version.ts';
import { CanceledError, toError } from '../errors.ts';
import { createCommands } from './commands.ts';
import { type CliContext, paint, printError, UsageError } from './context.ts';

/** Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. */
const FAILED = 1;
const WRONG_USE = 2;
const INTERRUPTED = 130;

/** Runs the command of the arguments to its end and sets the exit code; `startService` is what `start` does. */
export async function runProgram(startService: () => Promise<void>): Promise<void> {
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
  const commands = createCommands(context, startService);
  for (const command of commands) program.addCommand(command.copyInheritedSettings(program));
  for (const command of [program, ...commands]) command.exitOverride();
  // The service has its own handling of signals; every other command is stopped by the first.
  program.hook('preAction', async (_, action) => {
    for (const signal of action.name() === 'start' ? [] : (['SIGINT', 'SIGTERM'] as const)) {
      process.once(signal, () => abort.abort(new CanceledError('cancelled')));
    }
    (await import('../config.ts')).loadEnvFile();
  });
  try {
    await program.parseAsync();
  } catch (thrown) {
    process.exitCode = exitCodeOf(toError(thrown), context);
    // A service that could not begin to serve has connections and workers by then.
    if (process.argv[2] === 'start') process.exit();
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

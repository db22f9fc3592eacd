import { Command } from 'commander';

/** `roboflow start`: the service, as `npm start` runs it; `run` starts it. */
export function startCommand(run: () => Promise<void>): Command {
  return new Command('start')
    .description(
      'run the service: one primary (API, metrics) and WORKERS workers, set up by environment variables',
    )
    .addHelpText('after', '\nExamples:\n  $ roboflow start\n  $ WORKERS=0 roboflow start    # API only')
    .action(run);
}

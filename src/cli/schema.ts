import { Command } from 'commander';
import { configJsonSchema } from '../conversion/config.ts';
import type { CliContext } from './context.ts';

/** `roboflow schema`: the JSON Schema of the dataset config, for editors. */
export function schemaCommand(context: CliContext): Command {
  return new Command('schema')
    .description('print the JSON Schema of the dataset config, for editors')
    .option('--json', 'the same: the output is JSON anyway')
    .addHelpText(
      'after',
      '\nExample:\n  $ roboflow schema > roboflow.schema.json\n\n' +
        'An editor with the YAML language server checks and completes a config that begins with\n' +
        '  # yaml-language-server: $schema=roboflow.schema.json',
    )
    .action(() => {
      context.out.write(
        `${JSON.stringify({ title: 'roboflow dataset config', ...configJsonSchema() }, undefined, 2)}\n`,
      );
    });
}

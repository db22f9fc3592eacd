import { configJsonSchema } from '../conversion/config.ts';
import type { CliContext } from './context.ts';

/** Prints the JSON Schema of the dataset config. */
export function printSchema(context: CliContext): void {
  context.out.write(
    `${JSON.stringify({ title: 'roboflow dataset config', ...configJsonSchema() }, undefined, 2)}\n`,
  );
}

import { styleText } from 'node:util';
import { InvalidArgumentError } from 'commander';
import { InputError } from '../errors.ts';
import { resolveLocation } from '../storage/location.ts';

/** What every command is given. */
export type CliContext = {
  readonly out: NodeJS.WriteStream;
  readonly err: NodeJS.WriteStream;
  /** Aborted by Ctrl+C. */
  readonly signal: AbortSignal;
};

/** The command was used wrongly: exit code 2. */
export class UsageError extends InputError {}

/** Prints one JSON value on a line. */
export function printJson(context: CliContext, value: unknown): void {
  context.out.write(`${JSON.stringify(value)}\n`);
}

/** Prints lines of text. */
export function printLines(context: CliContext, ...lines: readonly string[]): void {
  context.out.write(`${lines.join('\n')}\n`);
}

/** Says what went wrong. */
export function printError(context: CliContext, message: string): void {
  context.err.write(`${paint(context.err, 'red', 'error:')} ${message}\n`);
}

/** Text in a colour where the stream is a terminal that shows it and NO_COLOR is not set. */
export function paint(stream: NodeJS.WriteStream, colour: Colour, text: string): string {
  return stream.isTTY && stream.hasColors() ? styleText(colour, text) : text;
}

export type Colour = 'green' | 'yellow' | 'red' | 'cyan' | 'bold';

const COLOURS: Readonly<Record<string, Colour>> = {
  completed: 'green',
  skipped: 'green',
  partial: 'yellow',
  cancelled: 'yellow',
  failed: 'red',
  planning: 'cyan',
  converting: 'cyan',
  finalizing: 'cyan',
  active: 'cyan',
};

/** The state of a dataset or job in its colour. */
export function paintState(stream: NodeJS.WriteStream, state: string, text = state): string {
  const colour = COLOURS[state];
  return colour === undefined ? text : paint(stream, colour, text);
}

/** Paths relative to the working directory and URLs, as URLs without trailing slash. */
export function toUrl(location: string): string {
  return resolveLocation(location, { cwd: process.cwd() }).href.replace(/(?<!\/)\/$/, '');
}

/** Parses the value of an option that takes a whole number. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`expected a whole number from ${min} to ${max}.`);
  };
}

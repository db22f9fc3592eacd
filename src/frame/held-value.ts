import { InputError } from '../errors.ts';
import { describe } from './field-path.ts';

/** A stretch of the timeline, inclusive, with what is known of it. */
export type Stretch = {
  readonly start: bigint;
  readonly end: bigint;
  readonly task?: string;
  readonly success?: boolean;
};

/**
 * Stretches during which a topic holds one value. A value holds from its message until another one comes; true, any
 * number that is not negative and any text that is not empty are an episode; false, negative numbers, NaN and ''
 * are none. Memory grows with the number of changes.
 */
export class SwitchedSpans {
  private readonly changes: { time: bigint; value: string | undefined }[] = [];

  /** One message, in order of time; `where` is for messages. */
  add(time: bigint, value: unknown, where: string): void {
    const name = episodeName(value, where);
    if (this.changes.at(-1)?.value === name && this.changes.length > 0) return;
    this.changes.push({ time, value: name });
  }

  /** The stretches; the last one ends at `end`. */
  until(end: bigint): Stretch[] {
    return this.changes.flatMap(({ time, value }, i) => {
      const next = this.changes[i + 1];
      return value === undefined ? [] : [{ start: time, end: next ? next.time - 1n : end }];
    });
  }
}

/** The value as a name of an episode, undefined for none. */
function episodeName(value: unknown, where: string): string | undefined {
  switch (typeof value) {
    case 'boolean':
      return value ? 'true' : undefined;
    case 'number':
    case 'bigint':
      return value >= 0 ? String(value) : undefined;
    case 'string':
      return value === '' ? undefined : value;
    default:
      throw new InputError(
        `${where}: expected a boolean, a number or a text to tell episodes apart, found ${describe(value)}`,
      );
  }
}

/** Texts that hold until the next one; equal ones in a row are kept once, empty ones are no text. */
export class HeldTexts {
  private readonly changes: { time: bigint; text: string }[] = [];

  /** One message, in order of time. */
  add(time: bigint, text: string): void {
    if (text.trim() === '' || this.changes.at(-1)?.text === text) return;
    this.changes.push({ time, text });
  }

  /** The text that holds at `start`, else the first one until `end`. */
  in(start: bigint, end: bigint): string | undefined {
    const held = this.changes.findLast(({ time }) => time <= start);
    const first = held ?? this.changes.find(({ time }) => time <= end);
    return first?.text;
  }
}

import { InputError } from '../errors.ts';
import { nanoseconds } from './arrival.ts';
import { Coverage } from './coverage.ts';
import { describe, readField } from './field-path.ts';
import { HeldTexts, SwitchedSpans, type Stretch } from './held-value.ts';
import { Motion } from './motion.ts';
import { GridClock } from './row-clock.ts';
import { never } from './sample-queue.ts';
import type { EpisodeSpan, FrameConfig, Mapping, TimelineExtent, Watch } from './types.ts';

/** A stretch of a recording that someone marked as an episode; times in ns, inclusive. */
export type Mark = {
  readonly start: bigint;
  readonly end: bigint;
  readonly task?: string;
  readonly success?: boolean;
};

/** What is known of a recording's episodes beside its messages. */
export type EpisodeFacts = {
  /** Task of the whole recording: its own, else the config's text or metadata; wins over a task topic. */
  readonly task?: string | undefined;
  /** Whether the recording succeeded, when metadata tell. */
  readonly success?: boolean | undefined;
  /** Wanted when the config splits by marks. */
  readonly marks?: readonly Mark[] | undefined;
};

/**
 * Finds the episodes of a recording during the first pass over it. For each message the reader hands over the samples
 * of its sources (in time only, see `TimelineScan.add`) and what the watches ask for.
 */
export class EpisodeScan {
  /** Topics to be read beside the features, and how; see `watch`. */
  readonly watches: readonly Watch[];
  /** Sources whose values, not only times, `sample` needs. */
  readonly values: ReadonlySet<number>;
  /** Whether `sample` has to see the sources; if not, the watched topics do. */
  readonly needsSamples: boolean;
  private readonly config: FrameConfig;
  private readonly coverage: Coverage | undefined;
  private readonly motions: ReadonlyMap<number, Motion>;
  private readonly switched = new SwitchedSpans();
  private readonly tasks = new HeldTexts();
  private readonly successes: { time: bigint; value: boolean }[] = [];

  constructor(mapping: Mapping, config: FrameConfig) {
    this.config = config;
    const { trim } = config;
    const { split } = config.episodes;
    this.watches = mapping.watches;
    if (typeof split === 'object' && 'gap' in split) this.coverage = new Coverage(nanoseconds(split.gap));
    const resolution = 1_000_000_000n / BigInt(config.fps);
    const moving = mapping.sources.filter(({ feature }) => feature === trim?.feature);
    this.motions = new Map(moving.map(({ index }) => [index, new Motion(trim?.threshold ?? 0, resolution)]));
    this.values = new Set(this.motions.keys());
    this.needsSamples = this.coverage !== undefined || this.motions.size > 0;
  }

  /** One sample of a source; `value` for the sources in `values`, left out when the message does not decode. */
  sample(source: number, time: bigint, value?: Float64Array): void {
    this.coverage?.add(time);
    if (value) this.motions.get(source)?.add(time, value);
  }

  /** One decoded message of a watched topic. Throws `InputError` when its field is not there or of another kind. */
  watch({ role, topic, field }: Watch, time: bigint, decoded: unknown): void {
    const value = readField(decoded, field);
    if (role === 'split') {
      this.switched.add(time, value, `topic ${topic}, field '${field}'`);
    } else if (role === 'task') {
      if (typeof value !== 'string') throw unexpected(topic, field, 'a text', value);
      this.tasks.add(time, value);
    } else {
      if (typeof value !== 'boolean') throw unexpected(topic, field, 'true or false', value);
      this.successes.push({ time, value });
    }
  }

  /**
   * The episodes within the extent, in order, trimmed, each with its task. Throws `InputError` when there is none, or
   * when an episode has no task or (if the config asks for it) no success.
   */
  result(extent: TimelineExtent, facts: EpisodeFacts): EpisodeSpan[] {
    const all = this.stretches(extent, facts).flatMap((stretch) => {
      const start = stretch.start > extent.t0 ? stretch.start : extent.t0;
      const end = stretch.end < extent.tEnd ? stretch.end : extent.tEnd;
      return start <= end ? [{ ...stretch, start, end }] : [];
    });
    if (all.length === 0) throw new InputError(`${this.splitWords()} leaves no episode within the recording`);
    const spans = all.flatMap((stretch) => this.trimmed(stretch));
    if (spans.length === 0) {
      const { feature, threshold } = this.config.trim ?? { feature: '', threshold: 0 };
      throw new InputError(
        `the whole recording is idle: ${feature} never changes by more than trim.threshold ${threshold}`,
      );
    }
    return spans.map((stretch) => {
      const { start, end } = stretch;
      const whole = this.config.episodes.split === 'none';
      const task = stretch.task ?? facts.task ?? this.tasks.in(start, whole ? never : end);
      if (task === undefined || task.trim() === '') throw new InputError(this.taskWords());
      const success = this.successOf(stretch, facts);
      return { start, end, task, ...(success === undefined ? {} : { success }) };
    });
  }

  private stretches(extent: TimelineExtent, facts: EpisodeFacts): readonly Stretch[] {
    const { split } = this.config.episodes;
    if (split === 'none') return [{ start: extent.t0, end: extent.tEnd }];
    if ('gap' in split) return this.coverage?.stretches ?? [];
    if ('topic' in split) return this.switched.until(extent.tEnd);
    if (!facts.marks)
      throw new InputError(`episodes.split: the marks '${split.marks}' of this recording are missing`);
    return inOrder(facts.marks);
  }

  private trimmed<T extends Stretch>(stretch: T): T[] {
    const { trim } = this.config;
    if (!trim) return [stretch];
    const moves = [...this.motions.values()].flatMap(
      (motion) => motion.within(stretch.start, stretch.end) ?? [],
    );
    if (moves.length === 0) return [];
    const keep = nanoseconds(trim.keep);
    const first = moves.map((move) => move.first - keep).reduce((a, b) => (a < b ? a : b));
    const last = moves.map((move) => move.last + keep).reduce((a, b) => (a > b ? a : b));
    return [
      {
        ...stretch,
        start: first > stretch.start ? first : stretch.start,
        end: last < stretch.end ? last : stretch.end,
      },
    ];
  }

  /** The mark's word, else the last message within the episode, else the recording's. */
  private successOf(stretch: Stretch, facts: EpisodeFacts): boolean | undefined {
    const asked = Object.values(this.config.features).find(
      (setting) => 'derive' in setting && setting.derive === 'success',
    );
    if (!asked) return undefined;
    const said = this.successes.findLast(({ time }) => time >= stretch.start && time <= stretch.end);
    const success = stretch.success ?? said?.value ?? facts.success;
    if (success === undefined) {
      throw new InputError(
        'next.success is asked for, but nothing in this episode says whether it succeeded',
      );
    }
    return success;
  }

  private splitWords(): string {
    const { split } = this.config.episodes;
    if (split === 'none') return 'the timeline';
    if ('topic' in split) return `episodes.split by topic ${split.topic}`;
    return 'gap' in split
      ? `episodes.split by gaps of ${split.gap} s`
      : `episodes.split by the marks ${split.marks}`;
  }

  private taskWords(): string {
    const { task } = this.config;
    const how = "give 'task' with the recording, or in the config as a text, {topic, field} or {metadata}";
    if (typeof task === 'object' && 'topic' in task) {
      return `an episode has no task: topic ${task.topic} has no text before or within it; ${how}`;
    }
    return `an episode has no task: ${how}`;
  }
}

/** The marks in order of time; where one begins at the end of another, a row of that time is the later one's. */
function inOrder(marks: readonly Mark[]): Mark[] {
  const sorted = marks.toSorted((a, b) => (a.start < b.start ? -1 : 1));
  return sorted.map((mark, i) => {
    const next = sorted[i + 1];
    if (!next || next.start > mark.end) return mark;
    if (next.start === mark.end && mark.start < mark.end) return { ...mark, end: mark.end - 1n };
    throw new InputError(
      `episodes.split: marks ${i + 1} and ${i + 2} in order of time overlap, one row cannot be in two episodes`,
    );
  });
}

/** Rows of the timeline that lie in the spans; with a reference topic an upper bound. */
export function rowsWithin(
  extent: TimelineExtent,
  config: FrameConfig,
  spans: readonly EpisodeSpan[],
): number {
  if (config.timeline !== 'grid') return extent.expectedRows;
  const clock = new GridClock(config.fps, extent.t0, extent.tEnd);
  return spans.reduce((sum, { start, end }) => sum + clock.rowsIn(start, end), 0);
}

function unexpected(topic: string, field: string, wanted: string, value: unknown): InputError {
  return new InputError(`topic ${topic}: expected ${wanted} in field '${field}', found ${describe(value)}`);
}

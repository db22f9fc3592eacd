import type { Progress, Stage } from './types.ts';

/** Where each stage begins and ends on the scale of a whole job; encoding takes most of the time. */
const SPAN: Record<Stage, readonly [number, number]> = {
  plan: [0, 0.05],
  convert: [0.05, 0.85],
  verify: [0.85, 0.9],
  upload: [0.9, 1],
};

/** Turns what the stages know of themselves into one growing fraction. */
export class StageProgress {
  readonly #report: (progress: Progress) => void;
  readonly #onStageEnd: (stage: Stage, seconds: number) => void;
  #stage: Stage = 'plan';
  #enteredAt: number | undefined;
  #frames = 0;
  #expectedFrames = 0;

  /** `onStageEnd` is told how long each stage took, also the one in which the job failed. */
  constructor(
    report: ((progress: Progress) => void) | undefined,
    onStageEnd: (stage: Stage, seconds: number) => void = () => undefined,
  ) {
    this.#report = report ?? (() => undefined);
    this.#onStageEnd = onStageEnd;
  }

  get stage(): Stage {
    return this.#stage;
  }

  /** Enters a stage, which ends the one before. */
  enter(stage: Stage): void {
    this.end();
    this.#stage = stage;
    this.#enteredAt = performance.now();
    this.#send(0);
  }

  /** Ends the current stage; harmless twice. */
  end(): void {
    if (this.#enteredAt === undefined) return;
    this.#onStageEnd(this.#stage, (performance.now() - this.#enteredAt) / 1000);
    this.#enteredAt = undefined;
  }

  /** Rows the conversion will have at most. */
  expect(frames: number): void {
    this.#expectedFrames = frames;
  }

  /** Rows written so far. */
  frames(count: number): void {
    this.#frames = count;
    this.#send(this.#expectedFrames === 0 ? 0 : Math.min(1, count / this.#expectedFrames));
  }

  /** Share of the current stage that is done. */
  within(share: number): void {
    this.#send(share);
  }

  #send(share: number): void {
    const [from, to] = SPAN[this.#stage];
    this.#report({
      stage: this.#stage,
      fraction: from + (to - from) * share,
      frames: this.#frames,
      expectedFrames: this.#expectedFrames,
    });
  }
}

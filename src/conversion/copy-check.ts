import { createHash } from 'node:crypto';
import type { FeatureValue, Picture } from '../frame/types.ts';
import { nalUnits } from '../recording/annex-b.ts';
import { CodedOrder } from './coded-order.ts';

type CodedPicture = Extract<Picture, { format: 'h264' | 'h265' }>;

/** Whether the pictures that one camera's rows show can be a video as they are; given row by row. */
export class CopyCheck {
  /** Why they cannot, once that is known. */
  fault: string | undefined;
  /** The first row's picture. */
  first: CodedPicture | undefined;
  readonly #order = new CodedOrder();
  readonly #fps: number;
  readonly #apart: boolean;
  #row = 0;
  #episode = -1;
  #keyRow = 0;
  #keys: number[] = [];
  #parameters = '';
  #last: CodedPicture | undefined;

  /** `apart`: every episode is a video of its own. */
  constructor(fps: number, apart: boolean) {
    this.#fps = fps;
    this.#apart = apart;
  }

  /** Key frames of the episode that has the fewest. */
  get keyFrames(): number {
    return Math.min(...this.#keys);
  }

  add(value: FeatureValue | undefined, episode: number): void {
    if (this.fault !== undefined) return;
    const picture = value as CodedPicture;
    const begins = episode !== this.#episode;
    if (begins) this.#keys.push(0);
    this.#episode = episode;
    this.fault = this.#faultOf(picture, begins);
    this.first ??= picture;
    this.#last = picture;
    if (picture.keyframe) {
      this.#keyRow = this.#row;
      this.#keys.push((this.#keys.pop() ?? 0) + 1);
    }
    this.#row += 1;
  }

  #faultOf(picture: CodedPicture, begins: boolean): string | undefined {
    const row = this.#row;
    const { keyframe } = picture;
    if (!keyframe && (row === 0 || (begins && this.#apart)))
      return `row ${row} does not begin with a key frame`;
    if (picture === this.#last) return `row ${row} shows the picture of the row before it again`;
    if (keyframe) {
      const parameters = parametersOf(picture);
      if (row === 0 && parameters === undefined) return 'its first key frame comes without parameter sets';
      if (row === 0) this.#parameters = parameters ?? '';
      else if (parameters !== undefined && parameters !== this.#parameters) {
        return `the stream changes its parameters at row ${row}`;
      }
    }
    if (this.#order.faultOf(picture, true) !== undefined)
      return `row ${row} does not follow the picture before it`;
    // Random access is slow where decoding has to begin far away.
    if (!keyframe && row - this.#keyRow >= this.#fps)
      return `more than ${this.#fps} pictures lie between key frames`;
    return undefined;
  }
}

/** A name for the parameter sets in a key frame; undefined without them. */
function parametersOf({ format, data }: CodedPicture): string | undefined {
  const hash = createHash('sha256');
  const found = new Set<number>();
  for (const unit of nalUnits(data)) {
    const type = format === 'h264' ? (unit[0] ?? 0) & 0x1f : ((unit[0] ?? 0) >> 1) & 0x3f;
    if (!PARAMETER_SETS[format].includes(type)) continue;
    found.add(type);
    hash.update(unit);
  }
  return found.size === PARAMETER_SETS[format].length ? hash.digest('hex') : undefined;
}

/** NAL unit types: sequence and picture parameter sets (H.265: video parameter sets, too). */
const PARAMETER_SETS: Readonly<Record<'h264' | 'h265', readonly number[]>> = {
  h264: [7, 8],
  h265: [32, 33, 34],
};

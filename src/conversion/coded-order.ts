import { InputError } from '../errors.ts';
import type { Picture } from '../frame/types.ts';

type CodedPicture = Extract<Picture, { format: 'h264' | 'h265' }>;

/**
 * Follows the numbers of a stream's pictures from its first key frame on, one reading of a recording. A picture whose
 * predecessor is missing shows something nobody filmed, and so does every one up to the next key frame; decoders give
 * them without an error.
 */
export class CodedOrder {
  /** Whether the pictures since the last key frame lack none before them. */
  private whole = false;
  private started = false;
  private last = 0;
  private step: number | undefined;
  private afterKey = false;
  private size: { readonly width: number; readonly height: number } | undefined;

  /**
   * Whether the next picture can be shown: not before the first key frame. Throws `InputError` for one that is shown
   * out of the order in which it was sent, lacks the ones before it, or has another size; `where` names the stream.
   */
  admits(picture: CodedPicture, where: string): boolean {
    const fault = this.faultOf(picture);
    if (fault === 'not begun') return false;
    if (fault === 'missing') {
      throw new InputError(
        `${where}: expected every coded picture since the last key frame, found one whose predecessor is missing`,
      );
    }
    if (picture.bFrame) {
      throw new InputError(
        `${where}: expected pictures in the order in which they are shown, found a B frame`,
      );
    }
    const { width, height } = picture;
    this.size ??= { width, height };
    if (this.size.width !== width || this.size.height !== height) {
      const { width: before, height: high } = this.size;
      throw new InputError(`${where}: expected pictures of ${before}×${high}, found ${width}×${height}`);
    }
    return true;
  }

  /** A picture did not arrive whole, and others may be made from it: none up to the next key frame can be shown. */
  lose(): void {
    this.whole = false;
  }

  /** What stands in the way of decoding the next picture. H.265 numbers tell it only `strict`: encoders may skip some. */
  faultOf(picture: CodedPicture, strict = false): 'not begun' | 'missing' | undefined {
    const { keyframe, order, format } = picture;
    if (keyframe) {
      this.started = true;
      this.whole = true;
      this.afterKey = true;
      this.last = order?.number ?? 0;
      return undefined;
    }
    if (!this.started) return 'not begun';
    if (!order) return this.whole ? undefined : 'missing';
    const { number, modulus, reference } = order;
    const distance = (number - this.last + modulus) % modulus;
    if (format === 'h264') {
      // 7.4.3: one more than the last picture that others are made from.
      if (distance !== 1) this.whole = false;
      if (reference) this.last = number;
    } else {
      if (strict && this.step !== undefined && distance !== this.step) this.whole = false;
      this.step ??= this.afterKey ? distance : undefined;
      this.last = number;
    }
    this.afterKey = false;
    return this.whole ? undefined : 'missing';
  }
}

import { spawnSync } from 'node:child_process';

/** Settings of encoders that send every picture in the order in which it is shown, a key frame in ten. */
export const withoutB = {
  h264: ['-preset', 'veryfast', '-g', '10', '-bf', '0', '-sc_threshold', '0'],
  h265: [
    '-preset',
    'ultrafast',
    '-x265-params',
    'log-level=error:keyint=10:min-keyint=10:scenecut=0:bframes=0',
  ],
} as const;

/** Coded pictures (Annex B, one each) of what FFmpeg reads on standard input, described by `input`. */
export function codedPictures(
  codec: 'h264' | 'h265',
  data: Buffer,
  input: readonly string[],
  options: readonly string[] = withoutB[codec],
): Buffer[] {
  const name = codec === 'h264' ? 'h264' : 'hevc';
  const { status, stdout, stderr } = spawnSync(
    'ffmpeg',
    ['-v', 'error', ...input, '-i', '-', '-c:v', codec === 'h264' ? 'libx264' : 'libx265']
      .concat('-pix_fmt', 'yuv420p', ...options)
      .concat('-bsf:v', `${name}_metadata=aud=insert`, '-f', name, '-'),
    { input: data, maxBuffer: 1 << 26 },
  );
  if (status !== 0) throw new Error(stderr.toString());
  return picturesOf(codec, stdout);
}

/** The pictures of a stream (Annex B) with access unit delimiters, one each. */
export function picturesOf(codec: 'h264' | 'h265', stream: Buffer): Buffer[] {
  const delimiter = Buffer.from(codec === 'h264' ? [0, 0, 0, 1, 9] : [0, 0, 0, 1, 0x46]);
  const pictures: Buffer[] = [];
  for (let at = stream.indexOf(delimiter); at >= 0;) {
    const next = stream.indexOf(delimiter, at + 4);
    pictures.push(stream.subarray(at, next < 0 ? undefined : next));
    at = next;
  }
  return pictures;
}

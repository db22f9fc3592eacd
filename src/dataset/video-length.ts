/** Up to this many seconds 32-bit times are exact enough for readers to find every frame of a video. */
export const LONGEST_SECONDS = 1000;

/** Frames of episodes up to this long are found anywhere in a video: the times within them are exact enough. */
const SHORT_SECONDS = 60;

/** What a video of one or more episodes, one after the other, comes to. */
export type VideoLengths = {
  readonly episodes: number;
  readonly seconds: number;
  /** Of the longest episode. */
  readonly longestSeconds: number;
};

/**
 * Whether readers find every frame of a video. They add the time within the episode, a 32-bit float, to the time at which
 * the episode begins in the video, and compare in 32 bits. An episode that begins with its video is exact at any length.
 */
export function fitsOneVideo({ episodes, seconds, longestSeconds }: VideoLengths): boolean {
  return episodes === 1 || seconds <= LONGEST_SECONDS || longestSeconds <= SHORT_SECONDS;
}

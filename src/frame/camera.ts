import type { CameraSetting, Crop, Feature, PictureTransform, Probe } from './types.ts';

/**
 * The column of a camera: shape after crop, resize and rotation. `faults` are sentences; `feature` is absent when the
 * topic is no camera at all.
 */
export function cameraFeature(
  key: string,
  setting: CameraSetting,
  probe: Probe,
  pixelFormat: string,
): { feature?: Feature; faults: string[] } {
  const { picture } = probe;
  if (!picture) return { faults: [`expected pictures for type '${setting.type}', the messages are none`] };
  const faults: string[] = [];
  if (setting.type === 'depth' && !picture.depth) {
    faults.push(
      `type 'depth' needs 16-bit or float pictures with one channel, found ${picture.channels} channels of colour`,
    );
  }
  if (setting.type === 'video' && picture.depth && !picture.light) {
    faults.push("the pictures are depth: set type to 'depth', found 'video'");
  }
  const { crop } = setting;
  if (crop && (crop.x + crop.width > picture.width || crop.y + crop.height > picture.height)) {
    faults.push(`crop ${words(crop)} leaves the picture of ${picture.width}×${picture.height}`);
  }
  const transform = transformOf(setting);
  const { width, height } = sizeAfter(picture, transform);
  if (setting.type === 'video' && subsampled(pixelFormat) && (width % 2 === 1 || height % 2 === 1)) {
    faults.push(
      `video in ${pixelFormat} needs an even width and height, found ${width}×${height}: crop or resize it`,
    );
  }
  const isDepth = setting.type === 'depth' || (setting.type === 'image' && picture.depth && !picture.light);
  const feature: Feature = {
    key,
    dtype: setting.type === 'image' ? 'image' : 'video',
    shape: [height, width, isDepth ? 1 : 3],
    names: ['height', 'width', 'channels'],
    camera: {
      width: picture.width,
      height: picture.height,
      transform,
      ...(isDepth ? { depthUnit: picture.depthUnit ?? 'mm' } : {}),
    },
  };
  return { feature, faults };
}

/** Whether a pixel format stores colour at half the resolution in both directions, so that sizes must be even. */
export function subsampled(pixelFormat: string): boolean {
  return /420|^nv12|^nv21|^p010/.test(pixelFormat);
}

/** Size of a picture after crop, resize and rotation. */
export function sizeAfter(
  picture: { readonly width: number; readonly height: number },
  { crop, resize, rotate }: PictureTransform,
): { width: number; height: number } {
  const { width, height } = resize ?? crop ?? picture;
  return rotate === 90 || rotate === 270 ? { width: height, height: width } : { width, height };
}

function transformOf({ crop, resize, rotate }: CameraSetting): PictureTransform {
  return { ...(crop && { crop }), ...(resize && { resize }), ...(rotate && { rotate }) };
}

function words({ x, y, width, height }: Crop): string {
  return `${width}×${height} at ${x},${y}`;
}

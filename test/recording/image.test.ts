import test from 'ava';
import sharp from 'sharp';
import { InputError } from '../../src/errors.ts';
import { isPictureSchema, toPicture } from '../../src/recording/image.ts';
import type { Channel } from '../../src/recording/types.ts';
import { numberedJpeg, numberedPixels } from '../helpers/demonstration.ts';

const channel: Channel = {
  id: 1,
  topic: '/cam',
  messageEncoding: 'cdr',
  schema: { name: 'sensor_msgs/msg/CompressedImage', encoding: 'ros2msg', data: new Uint8Array(0) },
  metadata: new Map(),
};

const SIZE = { width: 32, height: 16 };

test('picture types are known by name in every spelling', (t) => {
  const named = (name: string) => isPictureSchema({ ...channel, schema: { ...channel.schema, name } });
  for (const name of [
    'sensor_msgs/msg/Image',
    'sensor_msgs/Image',
    'sensor_msgs::msg::CompressedImage',
    'foxglove.CompressedImage',
    'foxglove.RawImage',
  ]) {
    t.true(named(name), name);
  }
  t.false(named('sensor_msgs/msg/JointState'));
});

test('a JPEG keeps its bytes and tells its size: 4:2:0, 4:4:4, grey and progressive', async (t) => {
  const raw = { raw: { ...SIZE, channels: 3 as const } };
  const source = () => sharp(numberedPixels(5, SIZE), raw);
  for (const data of [
    await source().jpeg().toBuffer(),
    await source().jpeg({ chromaSubsampling: '4:4:4' }).toBuffer(),
    await source().jpeg({ progressive: true }).toBuffer(),
    await source().toColourspace('b-w').jpeg().toBuffer(),
  ]) {
    const picture = toPicture({ format: 'jpeg', data }, channel);
    t.is(picture.format, 'jpeg');
    t.deepEqual([picture.width, picture.height], [32, 16]);
    t.is(picture.data, data);
  }
});

test('the payload decides between JPEG and PNG, not the format text', async (t) => {
  const png = await sharp(numberedPixels(5, SIZE), { raw: { ...SIZE, channels: 3 } })
    .png()
    .toBuffer();
  const picture = toPicture({ format: 'rgb8; jpeg compressed bgr8', data: png }, channel);
  t.is(picture.format, 'png');
  t.deepEqual([picture.width, picture.height], [32, 16]);
});

test('a JPEG padded with zeros is whole; one that is cut is not', async (t) => {
  const jpeg = await numberedJpeg(3, SIZE);
  const padded = Buffer.concat([jpeg, Buffer.alloc(100)]);
  t.is(toPicture({ format: 'jpeg', data: padded }, channel).width, 32);
  const bad: readonly [Uint8Array, RegExp][] = [
    [jpeg.subarray(0, jpeg.byteLength >> 1), /without an end-of-image marker: it was cut off/],
    [jpeg.subarray(2), /expected a picture in jpeg, png, .* found format 'jpeg' starting with ff /],
    [new Uint8Array(0), /found no bytes/],
    [Uint8Array.of(0xff, 0xd8, 0xff, 0xd9), /found none in 4 bytes/],
  ];
  for (const [data, message] of bad) {
    const error = t.throws(() => toPicture({ format: 'jpeg', data }, channel), {
      instanceOf: InputError,
      message,
    });
    t.regex(error?.message ?? '', /^topic \/cam: /);
  }
});

test('a PNG that is cut is refused', async (t) => {
  const png = await sharp(numberedPixels(5, SIZE), { raw: { ...SIZE, channels: 3 } })
    .png()
    .toBuffer();
  t.throws(() => toPicture({ format: 'png', data: png.subarray(0, -8) }, channel), {
    instanceOf: InputError,
    message: /without an end chunk: it was cut off/,
  });
});

test('raw rows with padding are packed, and tight rows are a view', (t) => {
  const data = Uint8Array.from({ length: 2 * 16 }, (_, index) => index);
  const padded = toPicture(
    { encoding: 'rgb8', width: 4, height: 2, step: 16, is_bigendian: 0, data },
    channel,
  );
  t.true(padded.format === 'raw' && padded.pixelFormat === 'rgb24');
  t.deepEqual([...padded.data], [...data.subarray(0, 12), ...data.subarray(16, 28)]);
  const tight = toPicture(
    { encoding: 'mono8', width: 16, height: 2, step: 16, is_bigendian: 0, data },
    channel,
  );
  t.is(tight.data.buffer, data.buffer);
});

test('a raw image with too few bytes, a short step or an unknown encoding is refused by name', (t) => {
  const image = {
    encoding: 'bgr8',
    width: 4,
    height: 2,
    step: 12,
    is_bigendian: 0,
    data: new Uint8Array(23),
  };
  t.throws(() => toPicture(image, channel), {
    instanceOf: InputError,
    message: /topic \/cam: expected 24 bytes for 4×2 pixels of bgr8 with a step of 12, found 23/,
  });
  t.throws(() => toPicture({ ...image, step: 11, data: new Uint8Array(24) }, channel), {
    message: /expected rows of 12 bytes in a bgr8 image 4 wide, found a step of 11/,
  });
  t.throws(() => toPicture({ ...image, encoding: 'xyz9' }, channel), {
    message: /image encoding 'xyz9' is not supported; known are rgb8, bgr8/,
  });
  t.throws(() => toPicture({ ...image, width: 4e9, height: 4e9, step: 0 }, channel), {
    instanceOf: InputError,
  });
});

import type { CameraIntrinsics } from '../dataset/types.ts';
import { InputError } from '../errors.ts';
import { isArrayValue, isRecord } from '../frame/field-path.ts';
import type { Source } from '../frame/types.ts';
import { createDecoder } from '../recording/decode.ts';
import type { Channel, Loss, Recording } from '../recording/types.ts';
import { firstMessage } from './probe.ts';

/** What was found: by camera feature, and what could not be read. */
export type IntrinsicsFound = {
  readonly intrinsics: Readonly<Record<string, CameraIntrinsics>>;
  readonly losses: readonly Loss[];
};

const calibration = /(^|[/.:])(CameraInfo|CameraCalibration)$/;

/**
 * The calibration of every camera that has one in the recording: the first message of the calibration topic with
 * which it shares the longest part of its name (`/cam/color/image_raw/compressed` and `/cam/color/camera_info`).
 */
export async function findIntrinsics(
  recording: Recording,
  sources: readonly Source[],
  signal: AbortSignal,
): Promise<IntrinsicsFound> {
  const channels = recording.channels.filter(
    ({ schema, messageCount }) => calibration.test(schema.name) && messageCount !== 0,
  );
  const intrinsics: Record<string, CameraIntrinsics> = {};
  const losses: Loss[] = [];
  for (const { kind, topic, feature } of sources) {
    const channel = kind === 'picture' ? nearestTo(topic, channels) : undefined;
    if (!channel) continue;
    try {
      const message = await firstMessage(recording, channel.topic, signal);
      if (message) intrinsics[feature] = intrinsicsOf(channel.topic, createDecoder(channel)(message.data));
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      losses.push({ what: `calibration of ${feature} from topic ${channel.topic}: ${thrown.message}` });
    }
  }
  return { intrinsics, losses };
}

/** The calibration topic in the same namespace as a camera, or in the nearest one around it. */
function nearestTo(topic: string, channels: readonly Channel[]): Channel | undefined {
  const parts = topic.split('/').filter((part) => part !== '');
  for (let length = parts.length; length > 0; length--) {
    const namespace = parts.slice(0, length).join('/');
    const found = channels.filter((channel) => {
      const place = channel.topic.split('/').filter((part) => part !== '');
      return place.slice(0, -1).join('/') === namespace;
    });
    if (found[0]) return found[0];
  }
  return undefined;
}

function intrinsicsOf(topic: string, message: unknown): CameraIntrinsics {
  if (!isRecord(message)) throw new InputError('expected a message with fields');
  const numbers = (key: string, length?: number) => {
    // ROS 1 and Foxglove spell the matrices in capitals.
    const value = message[key] ?? message[key.toUpperCase()];
    const list = isArrayValue(value) ? Array.from(value as ArrayLike<unknown>, Number) : [];
    if (
      !list.every(Number.isFinite) ||
      (length !== undefined && list.length !== length && list.length !== 0)
    ) {
      throw new InputError(
        `expected ${length ?? 'some'} numbers in field '${key}', found ${list.join(', ')}`,
      );
    }
    return list;
  };
  const side = (key: string) => {
    const value = Number(message[key]);
    if (!Number.isSafeInteger(value) || value < 0) throw new InputError(`expected a size in field '${key}'`);
    return value;
  };
  const model = message['distortion_model'];
  return {
    topic,
    width: side('width'),
    height: side('height'),
    distortionModel: typeof model === 'string' ? model : '',
    d: numbers('d'),
    k: numbers('k', 9),
    r: numbers('r', 9),
    p: numbers('p', 12),
  };
}

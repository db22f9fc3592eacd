import protobuf from 'protobufjs';
import 'protobufjs/ext/descriptor.js';
import type { BuiltChannel } from './recordings.ts';

/** foxglove's picture types, as their .proto files have them. */
const PROTO = `
syntax = "proto3";
package foxglove;
message CompressedImage { google.protobuf.Timestamp timestamp = 1; string frame_id = 4; bytes data = 2; string format = 3; }
message RawImage { google.protobuf.Timestamp timestamp = 1; string frame_id = 7; fixed32 width = 2; fixed32 height = 3; string encoding = 4; fixed32 step = 5; bytes data = 6; }
message CompressedVideo { google.protobuf.Timestamp timestamp = 1; string frame_id = 2; bytes data = 3; string format = 4; }
message JointStates { google.protobuf.Timestamp timestamp = 1; repeated string name = 2; repeated double position = 3; }
`;

const TIMESTAMP =
  'syntax = "proto3"; package google.protobuf; message Timestamp { int64 seconds = 1; int32 nanos = 2; }';

/** A protobuf type of a .proto text: its schema as recorders embed it, and an encoder of plain values. */
export function protobufType(
  name: string,
  proto: string = PROTO,
): { schema: NonNullable<BuiltChannel['schema']>; encode: (value: Record<string, unknown>) => Uint8Array } {
  const root = new protobuf.Root();
  protobuf.parse(TIMESTAMP, root, { keepCase: true });
  protobuf.parse(proto, root, { keepCase: true });
  root.resolveAll();
  const set = root.toDescriptor('proto3');
  const data = (set.constructor as unknown as { encode(message: unknown): protobuf.Writer })
    .encode(set)
    .finish();
  const type = root.lookupType(name);
  return {
    schema: { name, encoding: 'protobuf', data: new Uint8Array(data) },
    encode: (value) => new Uint8Array(type.encode(type.fromObject(value)).finish()),
  };
}

/** A protobuf channel; values carry `time` in ns, which becomes their timestamp. */
export function protobufChannel(
  topic: string,
  name:
    | 'foxglove.CompressedImage'
    | 'foxglove.RawImage'
    | 'foxglove.CompressedVideo'
    | 'foxglove.JointStates',
  messages: readonly { log: bigint; time: bigint; value: Record<string, unknown> }[],
): BuiltChannel {
  const { schema, encode } = protobufType(name);
  return {
    topic,
    encoding: 'protobuf',
    schema,
    messages: messages.map(({ log, time, value }) => ({
      log,
      value: encode({ ...value, timestamp: timestampOf(time) }),
    })),
  };
}

/** A google.protobuf.Timestamp value. */
export function timestampOf(time: bigint): { seconds: string; nanos: number } {
  return { seconds: String(time / 1_000_000_000n), nanos: Number(time % 1_000_000_000n) };
}

import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { createDecoder } from '../../src/recording/decode.ts';
import { createStampReader } from '../../src/recording/stamp.ts';
import type { Channel } from '../../src/recording/types.ts';
import { headerOf } from '../helpers/demonstration.ts';
import { protobufType } from '../helpers/foxglove.ts';
import { rosEncoder } from '../helpers/recordings.ts';
import { definitionOf } from '../helpers/ros-types.ts';

function channelOf(
  messageEncoding: string,
  name: string,
  encoding: string,
  data: Uint8Array | string,
): Channel {
  return {
    id: 1,
    topic: '/topic',
    messageEncoding,
    schema: { name, encoding, data: typeof data === 'string' ? Buffer.from(data) : data },
    metadata: new Map(),
  };
}

const STAMP = 1_700_000_000_123_456_789n;
const joints = {
  header: headerOf(STAMP, 'base'),
  name: ['a', 'b', 'c'],
  position: [0.5, -1.25, 3],
  velocity: [],
  effort: [1, 2, 3],
};

test('a ROS 2 JointState decodes to names and numbers, and its stamp is read in place', (t) => {
  const text = definitionOf('sensor_msgs/JointState', 2);
  const channel = channelOf('cdr', 'sensor_msgs/msg/JointState', 'ros2msg', text);
  const data = rosEncoder(text, 2)(joints);
  const decoded = createDecoder(channel)(data) as typeof joints;
  t.deepEqual(decoded.name, joints.name);
  t.deepEqual([...decoded.position], joints.position);
  t.deepEqual(decoded.header.stamp as unknown, { sec: 1_700_000_000, nanosec: 123_456_789 });
  t.is(createStampReader(channel)?.(data), STAMP);
});

test('names that ROS 2 does not allow are kept, as converters from ROS 1 keep them', (t) => {
  const text = [
    'uint8 idle=0',
    'uint8 MODE_MOVE = 1 # moving',
    'float64[2] O_T_EE # pose',
    'string<=5 Label',
    'float32 ok',
    'pkg/In[] In_s',
    'int8 last_ -3',
    `${'='.repeat(80)}\nMSG: pkg/In\nint16 V`,
  ].join('\n');
  const data = Buffer.alloc(4 + 16 + 8 + 4 + 4 + 4 + 1);
  data[1] = 1;
  data.writeDoubleLE(0.5, 4);
  data.writeDoubleLE(-2, 12);
  data.writeUInt32LE(3, 20);
  data.write('ab', 24);
  data.writeFloatLE(1.5, 28);
  data.writeUInt32LE(2, 32);
  data.writeInt16LE(7, 36);
  data.writeInt16LE(-7, 38);
  data.writeInt8(-4, 40);
  t.deepEqual(createDecoder(channelOf('cdr', 'pkg/msg/State', 'ros2msg', text))(data), {
    O_T_EE: Float64Array.of(0.5, -2),
    Label: 'ab',
    ok: 1.5,
    In_s: [{ V: 7 }, { V: -7 }],
    last_: -4,
  });
});

test('a ROS 1 JointState decodes, also where the channel calls it cdr', (t) => {
  const text = definitionOf('sensor_msgs/JointState', 1);
  const data = rosEncoder(text, 1)({ ...joints, header: { ...joints.header, seq: 7 } });
  for (const encoding of ['ros1', 'cdr']) {
    const channel = channelOf(encoding, 'sensor_msgs/JointState', 'ros1msg', text);
    const decoded = createDecoder(channel)(data) as typeof joints;
    t.deepEqual([...decoded.effort], joints.effort);
    t.is(decoded.header.seq, 7);
    t.is(createStampReader(channel)?.(data), STAMP);
  }
});

test('a big-endian CDR payload decodes, and its stamp with it', (t) => {
  const channel = channelOf(
    'cdr',
    'pkg/msg/Stamped',
    'ros2msg',
    `std_msgs/Header header\nuint16 value\n${'='.repeat(80)}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n`,
  );
  const data = Buffer.alloc(4 + 8 + 4 + 1 + 1 + 2);
  data.writeInt32BE(1_700_000_000, 4);
  data.writeUInt32BE(123_456_789, 8);
  data.writeUInt32BE(1, 12); // frame_id: its terminator alone
  data.writeUInt16BE(513, 18);
  t.deepEqual(createDecoder(channel)(data), {
    header: { stamp: { sec: 1_700_000_000, nanosec: 123_456_789 }, frame_id: '' },
    value: 513,
  });
  t.is(createStampReader(channel)?.(data), STAMP);
});

test('an IDL definition decodes like its .msg', (t) => {
  const idl = `================================================================================
IDL: pkg/msg/Reading
#include "std_msgs/msg/Header.idl"
module pkg { module msg {
  module Reading_Constants { const uint8 LOW = 0; };
  struct Reading { uint8 kind; std_msgs::msg::Header header; sequence<double> values; };
}; };
================================================================================
IDL: std_msgs/msg/Header
#include "builtin_interfaces/msg/Time.idl"
module std_msgs { module msg {
  struct Header { builtin_interfaces::msg::Time stamp; string frame_id; };
}; };
================================================================================
IDL: builtin_interfaces/msg/Time
module builtin_interfaces { module msg {
  struct Time { int32 sec; uint32 nanosec; };
}; };
`;
  const channel = channelOf('cdr', 'pkg/msg/Reading', 'ros2idl', idl);
  const encode = rosEncoder(
    `uint8 kind\nstd_msgs/Header header\nfloat64[] values\n${'='.repeat(80)}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n`,
    2,
  );
  const data = encode({ kind: 3, header: headerOf(STAMP, 'x'), values: [1.5, 2.5] });
  const decoded = createDecoder(channel)(data) as { kind: number; values: Float64Array };
  t.is(decoded.kind, 3);
  t.deepEqual([...decoded.values], [1.5, 2.5]);
  t.is(createStampReader(channel)?.(data), STAMP);
});

test('a stamp behind fields of varying size is found by decoding', (t) => {
  const text = `string label\nstd_msgs/Header header\n${'='.repeat(80)}\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n`;
  const channel = channelOf('cdr', 'pkg/msg/Late', 'ros2msg', text);
  const encode = rosEncoder(text, 2);
  const read = createStampReader(channel);
  t.is(read?.(encode({ label: 'a longer text', header: headerOf(STAMP, '') })), STAMP);
  t.is(read?.(encode({ label: '', header: headerOf(0n, '') })), undefined);
});

test('a type without a stamp has no stamp reader, and a zero stamp is none', (t) => {
  const plain = channelOf('cdr', 'std_msgs/msg/String', 'ros2msg', 'string data\n');
  t.is(createStampReader(plain), undefined);
  const text = definitionOf('sensor_msgs/JointState', 2);
  const channel = channelOf('cdr', 'sensor_msgs/msg/JointState', 'ros2msg', text);
  t.is(createStampReader(channel)?.(rosEncoder(text, 2)({ ...joints, header: headerOf(0n, '') })), undefined);
});

const PROTO = `
syntax = "proto3";
package robot;
message State {
  google.protobuf.Timestamp timestamp = 1;
  repeated double joint_position = 2;
  int64 tick = 3;
  optional uint64 big = 4;
  bytes blob = 5;
  map<string, float> gains = 6;
  repeated Part parts = 7;
  Mode mode = 8;
  enum Mode { IDLE = 0; RUN = 1; }
  message Part { string part_name = 1; sint64 offset = 2; }
}`;

test('a protobuf message decodes with its own field names, bigints for 64 bits, and its stamp', (t) => {
  const { schema, encode } = protobufType('robot.State', PROTO);
  const channel = channelOf('protobuf', schema.name, schema.encoding, schema.data);
  const data = encode({
    timestamp: { seconds: '1700000000', nanos: 123_456_789 },
    joint_position: [0.25, -2],
    tick: '-9007199254740995',
    big: '18446744073709551615',
    blob: Uint8Array.of(1, 2, 3),
    gains: { p: 0.5 },
    parts: [{ part_name: 'x', offset: '-5' }],
    mode: 1,
  });
  const decoded = createDecoder(channel)(data) as Record<string, unknown>;
  t.deepEqual(decoded['joint_position'], [0.25, -2]);
  t.is(decoded['tick'], -9007199254740995n);
  t.is(decoded['big'], 18446744073709551615n);
  t.deepEqual([...(decoded['blob'] as Uint8Array)], [1, 2, 3]);
  t.deepEqual(decoded['gains'], { p: 0.5 });
  t.deepEqual(decoded['parts'], [{ part_name: 'x', offset: -5n }]);
  t.is(decoded['mode'], 1);
  t.is(createStampReader(channel)?.(data), STAMP);
  t.is(createStampReader(channel)?.(new Uint8Array(0)), undefined);
});

test('JSON decodes, and its stamp is read from header or timestamp', (t) => {
  const channel = channelOf('json', 'Any', '', new Uint8Array(0));
  const read = createStampReader(channel);
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value));
  t.deepEqual(createDecoder(channel)(encode({ a: [1, 2] })), { a: [1, 2] });
  t.is(read?.(encode({ header: { stamp: { sec: 1_700_000_000, nanosec: 123_456_789 } } })), STAMP);
  t.is(read?.(encode({ timestamp: { sec: 1_700_000_000, nsec: 123_456_789 } })), STAMP);
  t.is(read?.(encode({ a: 1 })), undefined);
  const schema = JSON.stringify({ type: 'object', properties: { value: { type: 'number' } } });
  t.is(createStampReader(channelOf('json', 'Any', 'jsonschema', schema)), undefined);
});

for (const [encoding, schemaEncoding] of [
  ['cbor', ''],
  ['flatbuffer', 'flatbuffer'],
  ['', ''],
  ['cdr', 'omgidl'],
  ['cdr', ''],
] as const) {
  test(`messages in '${encoding}' with a schema in '${schemaEncoding}' are refused by topic and encoding`, (t) => {
    t.throws(() => createDecoder(channelOf(encoding, 'pkg/Type', schemaEncoding, 'x')), {
      instanceOf: InputError,
      message: /topic \/topic: expected messages in cdr .* found ('|no encoding)/,
    });
  });
}

test('a payload that does not decode is an InputError that names topic and type', (t) => {
  const text = definitionOf('sensor_msgs/JointState', 2);
  const channel = channelOf('cdr', 'sensor_msgs/msg/JointState', 'ros2msg', text);
  const whole = rosEncoder(text, 2)(joints);
  const decode = createDecoder(channel);
  for (const data of [whole.subarray(0, 40), new Uint8Array(0), whole.subarray(0, whole.byteLength - 1)]) {
    t.throws(() => decode(data), {
      instanceOf: InputError,
      message: /topic \/topic: .*JointState.*do not decode/,
    });
  }
});

test('a length that reaches beyond its message is refused even when the bytes after it are there', (t) => {
  const channel = channelOf('cdr', 'pkg/msg/Bytes', 'ros2msg', 'uint8[] data\n');
  const chunk = Buffer.alloc(64, 7);
  chunk.set([0, 1, 0, 0, 30, 0, 0, 0], 0);
  t.throws(() => createDecoder(channel)(chunk.subarray(0, 20)), { instanceOf: InputError });
});

test('a definition that does not parse is an InputError that names the topic', (t) => {
  t.throws(() => createDecoder(channelOf('cdr', 'pkg/msg/Bad', 'ros2msg', 'float64[ broken')), {
    instanceOf: InputError,
    message: /topic \/topic: the definition of pkg\/msg\/Bad cannot be parsed/,
  });
  t.throws(() => createDecoder(channelOf('protobuf', 'robot.None', 'protobuf', Uint8Array.of(9, 9, 9))), {
    instanceOf: InputError,
    message: /topic \/topic: expected protobuf descriptors with robot.None/,
  });
});

test('an IDL schema of several parts is read, whatever its types are called', (t) => {
  const head = (name: string) => `${'='.repeat(80)}\nIDL: ${name}\n`;
  const text =
    `${head('lab/msg/S')}#include "lab/msg/P.idl"\nmodule lab { module msg { struct S { lab::msg::P p; }; }; };\n` +
    `${head('lab/msg/P')}module lab { module msg { struct P { double x; }; }; };\n`;
  const data = rosEncoder(`lab/P p\n${'='.repeat(80)}\nMSG: lab/P\nfloat64 x\n`, 2)({ p: { x: 2.5 } });
  t.deepEqual(createDecoder(channelOf('cdr', 'lab/msg/S', 'ros2idl', text))(data) as unknown, {
    p: { x: 2.5 },
  });
});

test('CDR whose fields have headers of their own is refused, not read as if it had none', (t) => {
  const decode = createDecoder(channelOf('cdr', 'lab/msg/V', 'ros2msg', 'float64 v\n'));
  const payload = (kind: number, littleEndian: boolean) => {
    const data = new Uint8Array(12);
    data[1] = kind;
    new DataView(data.buffer).setFloat64(4, 1.5, littleEndian);
    return data;
  };
  for (const kind of [0, 1, 6, 7]) t.deepEqual(decode(payload(kind, kind % 2 === 1)) as unknown, { v: 1.5 });
  for (const kind of [2, 3, 8, 9, 10, 11]) {
    const expected = { instanceOf: InputError, message: /expected plain CDR, found encapsulation/ };
    t.throws(() => decode(payload(kind, kind % 2 === 1)), expected);
  }
});

test('of a protobuf oneof only the member that was sent is there; 64-bit keys of maps are numbers', (t) => {
  const proto = `syntax = "proto3"; package lab;
    message M { oneof kind { double a = 1; double b = 2; } map<int64, double> by_id = 3; double plain = 4; }`;
  const { schema, encode } = protobufType('lab.M', proto);
  const decode = createDecoder(channelOf('protobuf', schema.name, 'protobuf', schema.data));
  t.deepEqual(decode(encode({ b: 2 })) as unknown, { b: 2, by_id: {}, plain: 0 });
  t.deepEqual(decode(encode({ a: 0, by_id: { 5: 1.5, '-7': 2.5 } })) as unknown, {
    a: 0,
    by_id: { 5: 1.5, '-7': 2.5 },
    plain: 0,
  });
});

/** Definitions of the ROS types that test recordings use, as a ROS 2 recorder embeds them. */
const HEADER = `std_msgs/Header header
`;
const HEADER_ROS2 = `MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id`;
const TIME = `MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec`;
const HEADER_ROS1 = `MSG: std_msgs/Header
uint32 seq
time stamp
string frame_id`;
const RULE = '='.repeat(80);

const BODIES: Readonly<Record<string, { text: string; header: boolean }>> = {
  'std_msgs/String': { text: 'string data\n', header: false },
  'std_msgs/Bool': { text: 'bool data\n', header: false },
  'std_msgs/Float64': { text: 'float64 data\n', header: false },
  'sensor_msgs/JointState': {
    text: `${HEADER}string[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n`,
    header: true,
  },
  'sensor_msgs/CompressedImage': { text: `${HEADER}string format\nuint8[] data\n`, header: true },
  'sensor_msgs/CameraInfo': {
    text: `${HEADER}uint32 height\nuint32 width\nstring distortion_model\nfloat64[] d\nfloat64[9] k\nfloat64[9] r\nfloat64[12] p\n`,
    header: true,
  },
  'sensor_msgs/Image': {
    text: `${HEADER}uint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n`,
    header: true,
  },
};

/** The full definition text of a type, with what it refers to. */
export function definitionOf(type: string, ros: 1 | 2): string {
  const body = BODIES[type];
  if (!body) throw new Error(`no definition of ${type}: known are ${Object.keys(BODIES).join(', ')}`);
  if (!body.header) return body.text;
  const parts = ros === 1 ? [body.text, HEADER_ROS1] : [body.text, HEADER_ROS2, TIME];
  return parts.join(`${RULE}\n`).replaceAll(/([^\n])(={80})/g, '$1\n$2');
}

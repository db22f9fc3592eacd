import { hint } from '../frame/faults.ts';
import { subsampled } from '../frame/camera.ts';
import { isRecord } from '../frame/field-path.ts';
import { MOST_FAULTS } from './config-faults.ts';

/** Each fault of a name is compared with all of them: with more than anybody writes by hand, none is. */
const MOST_COMPARED = 200;

/** A fault of the config and the keys that lead to it. */
export type CrossFault = { readonly path: (string | number)[]; readonly message: string };

/** Columns that every LeRobot dataset has by itself, or that its readers make up. */
const reserved = new Set([
  'timestamp',
  'frame_index',
  'episode_index',
  'index',
  'task_index',
  'task',
  'language_persistent',
  'language_events',
]);

/**
 * What a schema of single keys cannot say: names that must exist elsewhere in the config, keys that become folders and
 * columns, sizes that the video format cannot store. Takes any input, so that it can run beside other faults.
 */
export function crossFaults(config: unknown): CrossFault[] {
  if (!isRecord(config) || !isRecord(config['features'])) return [];
  const features = config['features'];
  const faults: CrossFault[] = [];
  const keys = Object.keys(features);
  const compared = keys.length > MOST_COMPARED ? [] : keys;
  if (keys.length === 0) {
    faults.push({ path: ['features'], message: 'expected at least one feature, found none' });
  }
  const pixelFormat = isRecord(config['video']) ? config['video']['pix_fmt'] : undefined;
  for (const [key, setting] of Object.entries(features)) {
    if (faults.length >= MOST_FAULTS) break;
    const add = (message: string, ...path: (string | number)[]) =>
      faults.push({ path: ['features', key, ...path], message });
    for (const message of keyFaults(key)) add(message);
    if (!isRecord(setting)) continue;
    if ('type' in setting)
      cameraFaults(setting, typeof pixelFormat === 'string' ? pixelFormat : 'yuv420p', add);
    else {
      if (key.includes('image')) {
        add(
          `expected a key without 'image' for a vector, found '${key}': readers take such a key for a camera`,
        );
      }
      if ('derive' in setting) derivedFaults(key, setting, features, compared, add);
      const sources = Array.isArray(setting['concat']) ? setting['concat'] : [setting];
      for (const [i, source] of sources.entries()) {
        if (isRecord(source))
          vectorFaults(source, (message, ...path) =>
            add(message, ...('concat' in setting ? ['concat', i] : []), ...path),
          );
      }
    }
  }
  if (config['format'] === 'v2.1' && isRecord(config['videos']) && config['videos']['pack'] === true) {
    const message = 'LeRobot v2.1 has a video for every episode: videos.pack needs format v3.0';
    faults.push({ path: ['videos', 'pack'], message });
  }
  return [...faults, ...cameraNameFaults(features), ...trimFaults(config['trim'], features)];
}

type Add = (message: string, ...path: (string | number)[]) => void;

/** A feature key is a column, the name of one folder, and part of object keys. */
function keyFaults(key: string): string[] {
  const faults: string[] = [];
  if (reserved.has(key))
    faults.push(`'${key}' is a column that every dataset has by itself: choose another key`);
  // a key that every object has by itself would be found in what has no such column
  if (key === '' || key in Object.prototype) faults.push(`'${key}' cannot be a feature key`);
  if (key.includes('/'))
    faults.push(`expected a key without '/', found '${key}': LeRobot joins names with it`);
  if (key.includes('\\')) faults.push(`expected a key without '\\', found '${key}': it names a folder`);
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(key))
    faults.push('expected a key without control characters');
  if (key.includes('..') || key.startsWith('.') || key.endsWith('.')) {
    faults.push(`expected a key of parts between single dots, found '${key}': it names a folder`);
  }
  if (key.trim() !== key) faults.push(`expected a key without spaces at its ends, found '${key}'`);
  if (Buffer.byteLength(key) > 200)
    faults.push(`expected a key of at most 200 bytes, found ${Buffer.byteLength(key)}`);
  return faults;
}

function cameraFaults(setting: Readonly<Record<string, unknown>>, pixelFormat: string, add: Add): void {
  if (setting['type'] !== 'video' || !subsampled(pixelFormat)) return;
  const key = isRecord(setting['resize']) ? 'resize' : 'crop';
  const size = setting[key];
  if (!isRecord(size)) return;
  for (const side of ['width', 'height']) {
    const value = size[side];
    if (typeof value === 'number' && value % 2 === 1) {
      add(`expected an even ${side} for video in ${pixelFormat}, found ${value}`, key, side);
    }
  }
}

function derivedFaults(
  key: string,
  setting: Readonly<Record<string, unknown>>,
  features: Readonly<Record<string, unknown>>,
  compared: readonly string[],
  add: Add,
): void {
  const from = setting['from'];
  if (typeof from !== 'string') return;
  const target = features[from];
  if (!Object.hasOwn(features, from)) {
    const others = compared.filter((other) => other !== key);
    add(`expected the key of a feature, found '${from}'${hint(from, others)}`, 'from');
  } else if (isRecord(target) && ('type' in target || 'derive' in target)) {
    add(
      `expected the key of a vector, '${from}' is ${'type' in target ? 'a camera' : 'derived itself'}`,
      'from',
    );
  }
}

function vectorFaults(source: Readonly<Record<string, unknown>>, add: Add): void {
  const { names, labels, field } = source;
  if (Array.isArray(names)) {
    const seen = new Set<unknown>();
    const twice = new Set<unknown>();
    for (const name of names) (seen.has(name) ? twice : seen).add(name);
    for (const name of twice) add(`joint '${String(name)}' is listed more than once`, 'names');
  }
  if (!Array.isArray(labels)) return;
  const paths = Array.isArray(field) ? field.length : 1;
  if (Array.isArray(names) && labels.length !== names.length * paths) {
    add(`expected ${names.length * paths} labels, one a value, found ${labels.length}`, 'labels');
  }
  if (names === undefined && Array.isArray(field) && labels.length < field.length) {
    add(`expected at least ${field.length} labels, one a path or more, found ${labels.length}`, 'labels');
  }
}

/** Cameras are told apart by the last part of their key, in metrics and file names. */
function cameraNameFaults(features: Readonly<Record<string, unknown>>): CrossFault[] {
  const seen = new Map<string, string>();
  return Object.entries(features).flatMap(([key, setting]) => {
    if (!isRecord(setting) || !('type' in setting)) return [];
    const name = key.split('.').at(-1) ?? key;
    const other = seen.get(name);
    seen.set(name, other ?? key);
    if (other === undefined) return [];
    return [
      {
        path: ['features', key],
        message: `its last part '${name}' is that of camera '${other}' too: make them differ`,
      },
    ];
  });
}

function trimFaults(trim: unknown, features: Readonly<Record<string, unknown>>): CrossFault[] {
  if (!isRecord(trim)) return [];
  const { feature } = trim;
  if (typeof feature !== 'string') return [];
  const setting = features[feature];
  const path = ['trim', 'feature'];
  if (!Object.hasOwn(features, feature)) {
    return [
      {
        path,
        message: `expected the key of a feature, found '${feature}'${hint(feature, Object.keys(features))}`,
      },
    ];
  }
  if (isRecord(setting) && ('type' in setting || 'derive' in setting)) {
    return [
      {
        path,
        message: `expected the key of a vector, '${feature}' is ${'type' in setting ? 'a camera' : 'derived'}`,
      },
    ];
  }
  return [];
}

import { InputError } from '../errors.ts';
import { readField } from './field-path.ts';
import type { FrameConfig, SourceSetting } from './types.ts';
import { vectorReader } from './vector-reader.ts';
import { watchesOf } from './watch.ts';

/** Whether a decoded message of a topic has everything that the config takes from it; cameras are not looked at. */
export function suits(config: FrameConfig, topic: string, decoded: unknown): boolean {
  try {
    for (const setting of vectorSources(config)) if (setting.topic === topic) vectorReader(setting, decoded);
    for (const watch of watchesOf(config)) if (watch.topic === topic) readField(decoded, watch.field);
    return true;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

function vectorSources({ features }: FrameConfig): SourceSetting[] {
  return Object.values(features).flatMap((setting) => {
    if ('derive' in setting || 'type' in setting) return [];
    return 'concat' in setting ? setting.concat : [setting];
  });
}

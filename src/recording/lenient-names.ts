import type { MessageDefinition } from '@foxglove/message-definition';
import { parse } from '@foxglove/rosmsg';

/** A field or constant of a .msg text: what stands before its name, the name, and `=` after that of a constant. */
const MEMBER = /^([ \t]*[\w/]+(?:<=\d+)?(?:\[(?:<=)?\d*\])?[ \t]+)([A-Za-z]\w*)\b([ \t]*=)?/gm;

/** Names as ROS 2 wants them. */
const FIELD = /^[a-z](?:_?[a-z0-9]+)*$/;
const CONSTANT = /^[A-Z](?:_?[A-Z0-9]+)*$/;

/**
 * Parses ROS 2 definitions, also with names that ROS 2 itself does not allow (`O_T_EE`): recordings converted from ROS 1
 * keep theirs.
 */
export function parseRos2(text: string): MessageDefinition[] {
  const names = new Map<string, string>();
  const allowed = text.replaceAll(MEMBER, (member, before: string, name: string, equals = '') => {
    if ((equals === '' ? FIELD : CONSTANT).test(name)) return member;
    const standIn = `${equals === '' ? 'renamed' : 'RENAMED'}${names.size}${equals === '' ? 'x' : 'X'}`;
    names.set(standIn, name);
    return `${before}${standIn}${equals}`;
  });
  const definitions = parse(allowed, { ros2: true });
  if (names.size === 0) return definitions;
  return definitions.map((definition) => ({
    ...definition,
    definitions: definition.definitions.map((field) => ({
      ...field,
      name: names.get(field.name) ?? field.name,
    })),
  }));
}

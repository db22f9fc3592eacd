import { isMap, isPair, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import { toError } from '../errors.ts';
import { refusal } from '../frame/faults.ts';
import { pathOf, type Fault } from './config-faults.ts';

/** A value read from a text, and where in the text the value at a JSON pointer lies ('' when it does not). */
export type TextValue = { readonly value: unknown; readonly place: (pointer: string) => string };

/**
 * Reads YAML, of which JSON is a part. Throws `InputError` with line and column of everything that cannot be read;
 * `name` is the file's.
 */
export function readYaml(text: string, name: string): TextValue {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, merge: true });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `line ${line}, column ${col}`;
  };
  if (document.errors.length > 0) {
    throw refusal(
      name,
      document.errors.map(({ pos, message }) => `${at(pos[0])}: ${message}`),
      { cause: document.errors[0] },
    );
  }
  return {
    value: valueOf(document, name),
    place: (pointer) => {
      const offset = offsetOf(document, pathOf(pointer));
      return offset === undefined ? '' : at(offset);
    },
  };
}

/** Aliases are spread out here, which fails when there are too many of them. */
function valueOf(document: Document, name: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw refusal(name, [toError(cause).message], { cause });
  }
}

/** A fault in words: where in the text (when it is one), where in the value, and what. */
export function sentence({ pointer, detail }: Fault, place: (pointer: string) => string): string {
  const where = place(pointer);
  return `${where === '' ? '' : `${where}, `}${pointer === '' ? '/' : pointer}: ${detail}`;
}

/** Where the key (or list item) at a path begins; where it is missing, where its nearest parent begins. */
function offsetOf(document: Document, path: readonly string[]): number | undefined {
  let offset = rangeStart(document.contents);
  let node: unknown = document.contents;
  for (const [depth, key] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key,
      );
      if (!pair) return offset;
      offset = rangeStart(pair.key) ?? offset;
      node = pair.value;
    } else {
      const item: unknown = document.getIn(path.slice(0, depth + 1), true);
      offset = rangeStart(item) ?? offset;
      node = item;
    }
  }
  return offset;
}

function rangeStart(node: unknown): number | undefined {
  const range = typeof node === 'object' && node !== null && 'range' in node ? node.range : undefined;
  return Array.isArray(range) && typeof range[0] === 'number' ? range[0] : undefined;
}

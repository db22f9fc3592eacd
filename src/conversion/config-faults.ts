import { safeParse, type z } from 'zod';
import { describe, isRecord, valueAt } from '../frame/field-path.ts';
import { hint } from '../frame/faults.ts';

/** One fault of an input: where (a JSON pointer, RFC 6901) and what was expected and found. */
export type Fault = { readonly pointer: string; readonly detail: string };

type Issue = z.core.$ZodIssue;
type Schema = z.core.$ZodType;
type Path = readonly (string | number)[];
type Union = z.core.$ZodUnionDef;

/** More faults of one thing help nobody. */
export const MOST_FAULTS = 1000;

/**
 * The faults that a schema found in an input, one sentence each: unknown keys name the nearest known one, and of a
 * union only the branch is reported that the input was meant for. Of very many faults the first are told.
 */
export function faultsOf(schema: Schema, error: z.core.$ZodError, input: unknown): Fault[] {
  return distinct(explainAll(schema, error.issues, [], input));
}

/** Faults without repetitions. */
export function distinct(faults: readonly Fault[]): Fault[] {
  return [...new Map(faults.map((fault) => [`${fault.pointer}\n${fault.detail}`, fault])).values()];
}

/** The JSON pointer of a path. */
export function pointerOf(path: Path): string {
  return path.map((key) => `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/** The path of a JSON pointer; numbers stay text. */
export function pathOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function explainAll(schema: Schema, issues: readonly Issue[], base: Path, input: unknown): Fault[] {
  const unions = new Set<string>();
  return issues.slice(0, MOST_FAULTS).flatMap((issue) => explain(schema, issue, base, input, unions));
}

/** `unions`: where the unions lie that were explained already, with every fault in them. */
function explain(schema: Schema, issue: Issue, base: Path, input: unknown, unions: Set<string>): Fault[] {
  const inner = issue.path.map((key) => (typeof key === 'symbol' ? String(key) : key));
  const path = [...base, ...inner];
  const found = valueAt(input, inner);
  const union = firstUnion(schema, inner);
  if (union && issue.code !== 'custom') {
    const at = inner.slice(0, union.depth);
    const place = pointerOf(at);
    if (unions.has(place)) return [];
    unions.add(place);
    return explainUnion(union.def, [...base, ...at], valueAt(input, at));
  }
  const target = schemaAt(schema, inner);
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.slice(0, MOST_FAULTS).map((key) => ({
        pointer: pointerOf([...path, key]),
        detail: `unknown key '${key}'${hint(key, knownKeys(target))}`,
      }));
    case 'invalid_type':
      return [fault(path, found, expected(issue.expected))];
    case 'invalid_value':
      return [
        fault(
          path,
          found,
          `expected ${issue.values.map(quoted).join(' or ')}`,
          nearestValue(found, issue.values),
        ),
      ];
    case 'too_small':
      return [
        fault(
          path,
          found,
          `expected ${measure(issue.origin)}${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}`,
        ),
      ];
    case 'too_big':
      return [
        fault(
          path,
          found,
          `expected ${measure(issue.origin)}${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}`,
        ),
      ];
    case 'custom':
      return [{ pointer: pointerOf(path), detail: issue.message }];
    default:
      return [fault(path, found, issue.message)];
  }
}

/**
 * The branch an input was meant for: the one its discriminating key names; else one whose kind of value fits, among
 * these the one that knows most of its keys, then the one with the fewest faults. When no kind fits, what would have.
 * The branches are tried again here because a parser reports only the one that came furthest.
 */
function explainUnion(union: Union, path: Path, found: unknown): Fault[] {
  const { options } = union;
  const key = discriminatorOf(union);
  const word = key !== undefined && isRecord(found) ? found[key] : undefined;
  const named = options.filter((option) => key !== undefined && wordsAt(option, key).includes(word));
  if (key !== undefined && word !== undefined && named.length === 0) {
    const words = options.flatMap((option) => wordsAt(option, key));
    return [
      fault([...path, key], word, `expected ${words.map(quoted).join(' or ')}`, nearestValue(word, words)),
    ];
  }
  const tried = (named.length > 0 ? named : options).map((option) => ({
    option,
    issues: safeParse(option, found).error?.issues ?? [],
  }));
  const fitting = tried.filter(
    ({ option, issues }) => !issues.some(isWrongKind) && hasDiscriminator(option, found),
  );
  const empty = isRecord(found) && Object.keys(found).length === 0;
  const [best] = fitting.toSorted(
    (a, b) => unknownKeys(a.issues) - unknownKeys(b.issues) || a.issues.length - b.issues.length,
  );
  if (best && !(empty && fitting.length > 1)) {
    return explainAll(best.option, best.issues, path, found);
  }
  const words = [...new Set(options.map(optionWords))];
  const literals = options.flatMap(literalValues);
  return [fault(path, found, `expected ${words.join(', or ')}`, nearestValue(found, literals))];
}

/** The key by whose value the options of a union are told apart, if there is one. */
function discriminatorOf(union: Union): string | undefined {
  return 'discriminator' in union && typeof union.discriminator === 'string'
    ? union.discriminator
    : undefined;
}

/** Whether an input can be meant for an option that is a union told apart by a key: it must have that key. */
function hasDiscriminator(option: Schema, found: unknown): boolean {
  const { def } = (unwrap(option) as z.core.$ZodTypes)._zod;
  const key = def.type === 'union' ? discriminatorOf(def) : undefined;
  return key === undefined || (isRecord(found) && key in found);
}

/** The words that an object schema takes at a key. */
function wordsAt(option: Schema, key: string): readonly unknown[] {
  const { def } = (unwrap(option) as z.core.$ZodTypes)._zod;
  const part = def.type === 'object' ? def.shape[key] : undefined;
  return part ? [...(part._zod.values ?? [])] : [];
}

function isWrongKind({ code, path }: Issue): boolean {
  return path.length === 0 && (code === 'invalid_type' || code === 'invalid_value');
}

function unknownKeys(issues: readonly Issue[]): number {
  return issues.reduce(
    (sum, issue) =>
      sum + (issue.code === 'unrecognized_keys' && issue.path.length === 0 ? issue.keys.length : 0),
    0,
  );
}

/** The first union on the way to a path: how deep it lies, and its options. */
function firstUnion(schema: Schema, path: Path): { depth: number; def: Union } | undefined {
  for (let depth = 0; depth <= path.length; depth++) {
    const def = (schemaAt(schema, path.slice(0, depth)) as z.core.$ZodTypes | undefined)?._zod.def;
    if (def?.type === 'union') return { depth, def };
  }
  return undefined;
}

function fault(path: Path, found: unknown, wanted: string, more = ''): Fault {
  return {
    pointer: pointerOf(path),
    detail: found === undefined ? `${wanted}, it is missing` : `${wanted}, found ${describe(found)}${more}`,
  };
}

const typeWords: Readonly<Record<string, string>> = {
  string: 'a text',
  int: 'an integer',
  number: 'a number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

function expected(type: string): string {
  return `expected ${typeWords[type] ?? type}`;
}

function measure(origin: string): string {
  if (origin === 'string') return 'a text with a length of ';
  return origin === 'array' ? 'a list with a length of ' : '';
}

function quoted(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : String(value as number);
}

function nearestValue(found: unknown, values: readonly unknown[]): string {
  const texts = values.filter((value) => typeof value === 'string');
  if (typeof found !== 'string' || texts.length === 0) return '';
  const near = hint(found, texts);
  return near.startsWith('; nearest') ? near : '';
}

/** What an option of a union takes, in words. */
function optionWords(schema: Schema): string {
  const { def } = (unwrap(schema) as z.core.$ZodTypes)._zod;
  if (def.type === 'literal') return literalValues(schema).map(quoted).join(' or ');
  if (def.type === 'union') return [...new Set(def.options.map(optionWords))].join(', or ');
  if (def.type !== 'object') return typeWords[def.type] ?? def.type;
  const required = Object.entries(def.shape).filter(([, part]) => part._zod.optin !== 'optional');
  return `an object with ${required.map(([key]) => `'${key}'`).join(' and ')}`;
}

function literalValues(schema: Schema): readonly unknown[] {
  const { def } = (unwrap(schema) as z.core.$ZodTypes)._zod;
  return def.type === 'literal' ? def.values : [];
}

function knownKeys(schema: Schema | undefined): string[] {
  const def = (schema as z.core.$ZodTypes | undefined)?._zod.def;
  return def?.type === 'object' ? Object.keys(def.shape) : [];
}

/** The schema of the value at a path, free of defaults and the like; undefined where a schema cannot tell. */
function schemaAt(schema: Schema, path: Path): Schema | undefined {
  let here: Schema | undefined = unwrap(schema);
  for (const key of path) {
    const def: z.core.$ZodTypes['_zod']['def'] | undefined = (here as z.core.$ZodTypes | undefined)?._zod.def;
    if (def?.type === 'object') here = def.shape[key];
    else if (def?.type === 'record') here = def.valueType;
    else if (def?.type === 'array') here = def.element;
    else return undefined;
    here = here && unwrap(here);
  }
  return here;
}

function unwrap(schema: Schema): Schema {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case 'optional':
    case 'nullable':
    case 'default':
    case 'prefault':
    case 'readonly':
    case 'nonoptional':
      return unwrap(def.innerType);
    case 'pipe':
      return unwrap(def.in);
    default:
      return schema;
  }
}

import { splitPublicJobId } from './jobs.ts';
import type { DatasetRecord } from './store.ts';

/** A fault of a request: a JSON pointer into it and a sentence. */
export type Fault = { readonly pointer: string; readonly detail: string };

/** An expected refusal: what was asked for is not there, not possible now, or not allowed. */
export type Refusal =
  | { readonly refused: 'unknown'; readonly detail: string }
  | { readonly refused: 'conflict'; readonly detail: string }
  | { readonly refused: 'invalid'; readonly faults: readonly Fault[] };

export function conflict(detail: string): Refusal {
  return { refused: 'conflict', detail };
}

export function unknownDataset(id: string): Refusal {
  return { refused: 'unknown', detail: `no dataset with the id ${JSON.stringify(id.slice(0, 128))}` };
}

export function unknownJob(id: string): Refusal {
  const at = splitPublicJobId(id);
  const where = at ? ` in dataset ${at.datasetId}` : '';
  return { refused: 'unknown', detail: `no job with the id ${JSON.stringify(id.slice(0, 256))}${where}` };
}

/** A dataset is written to one place for ever. */
export function otherOutput(known: DatasetRecord, output: string): Refusal {
  return conflict(`dataset ${known.datasetId} is written to ${known.output}, not to ${output}`);
}

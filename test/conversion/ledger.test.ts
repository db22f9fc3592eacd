import test from 'ava';
import { Registry } from 'prom-client';
import { readLedger, writePlan, writeResult } from '../../src/conversion/ledger.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import type { ObjectInfo, Storage, UploadFile } from '../../src/storage/types.ts';
import { temporaryFolder } from '../helpers/conversion.ts';

test('the newest run of a recording counts, in whatever order a store lists the ledger', async (t) => {
  const metrics = createStorageMetrics(new Registry());
  const storage = openStorage(await temporaryFolder(t), { metrics, role: 'destination' });
  const put = async ({ key, body }: UploadFile) => await storage.put(key, body);
  const recording = { key: 'a-1', slot: 0, source: 'file:///a.mcap' };
  const ended = { ...recording, frames: 0, attempts: 1, createdAt: 1, startedAt: 1, finishedAt: 2 };
  await writePlan(put, 'd', 'r1', [recording]);
  await writeResult(put, 'r1', [{ ...ended, state: 'failed' }]);
  await writePlan(put, 'd', 'r2', [recording]);
  await writeResult(put, 'r2', [{ ...ended, state: 'completed', frames: 7 }]);
  async function* reversedList(...args: Parameters<Storage['list']>) {
    const all: ObjectInfo[] = [];
    for await (const object of storage.list(...args)) all.push(object);
    yield* all.toReversed();
  }
  const reversed = new Proxy(storage, {
    get(target, name) {
      if (name === 'list') return reversedList;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  for (const store of [storage, reversed]) {
    const { signal } = new AbortController();
    const [found] = (await readLedger(store, 'd', signal))?.recordings ?? [];
    t.is(found?.runId, 'r2');
    t.is(found?.ended?.state, 'completed');
  }
});

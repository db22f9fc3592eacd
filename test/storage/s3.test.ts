import { randomUUID } from 'node:crypto';
import test from 'ava';
import { Registry } from 'prom-client';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { openStorage } from '../../src/storage/open.ts';
import { s3Servers } from '../helpers/s3-server.ts';
import { storageContract } from './contract.ts';

const servers = await Promise.all((await s3Servers()).map((start) => start()));
test.after.always(() => Promise.all(servers.map((server) => server.stop())));

for (const server of servers) {
  const storeAt = (location: string) => {
    const metrics = createStorageMetrics(new Registry());
    const bytesRead = async () =>
      (await metrics.bytesRead.get()).values.find((value) => value.labels.source === 's3')?.value ?? -1;
    const settings = { ...server.settings, partSize: 5_242_880 };
    return { storage: openStorage(location, { metrics, role: 'source', s3: settings }), bytesRead };
  };
  storageContract(test, server.name, async () => storeAt(`s3://${server.bucket}/${randomUUID()}/a b+ü`), {
    large: 12_000_000,
    ordered: server.name !== 'SeaweedFS',
  });
}
if (servers.length === 0) test.skip('no S3 server: nothing was tried', () => {});

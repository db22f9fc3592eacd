import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import test, { type ExecutionContext } from 'ava';
import { connectPatient } from '../../src/queue/connection.ts';
import { episodeJobId, newRunId } from '../../src/queue/jobs.ts';
import { keysOf } from '../../src/queue/keys.ts';
import { listenForStops, publishStop } from '../../src/queue/stops.ts';
import { randomPrefix, sharedRedis } from '../helpers/redis.ts';
import { silent } from './rig.ts';

/** Redis behind a wire that can be cut; `onSubscribe` may keep a subscription from Redis by returning true. */
async function wire(t: ExecutionContext, url: string, onSubscribe: () => boolean) {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const redis = connect(Number(port || 6379), hostname);
    for (const socket of [client, redis]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        redis.destroy();
      });
    }
    client.on('data', (bytes: Buffer) => {
      if (/\r\nsubscribe\r\n/i.test(bytes.toString('latin1')) && onSubscribe()) return;
      redis.write(bytes);
    });
    redis.on('data', (bytes: Buffer) => client.write(bytes));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  t.teardown(() => {
    cut();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('expected a port');
  const allEnded = async () => {
    while (sockets.size > 0) await sleep(5);
  };
  const own = new URL(url);
  own.host = `127.0.0.1:${address.port}`;
  return { url: own.href, cut, allEnded };
}

test('stop orders come again after the connection was lost, and it may end while it subscribes anew', async (t) => {
  const shared = await sharedRedis();
  const keys = keysOf(randomPrefix());
  const run = newRunId();
  const unhandled: unknown[] = [];
  const note = (thrown: unknown) => unhandled.push(thrown);
  process.on('unhandledRejection', note);
  t.teardown(() => process.off('unhandledRejection', note));

  let subscriptions = 0;
  let endsAtThird: (() => void) | undefined;
  const third = new Promise<void>((resolve) => (endsAtThird = resolve));
  const { url, cut, allEnded } = await wire(t, shared.url, () => {
    subscriptions++;
    if (subscriptions < 3) return false;
    end();
    endsAtThird?.();
    return true;
  });
  const redis = connectPatient({ url }, 'stops', silent);
  const plain = new Redis(shared.url);
  t.teardown(async () => {
    redis.disconnect();
    plain.disconnect();
    await shared.end();
  });

  const covered: boolean[] = [];
  const end = listenForStops(redis, keys, silent, (stop) =>
    covered.push(stop.covers(episodeJobId(run, 'take')), stop.covers(episodeJobId(newRunId(), 'take'))),
  );
  const heard = async (count: number) => {
    while (covered.length < count) {
      await publishStop(plain, keys, run);
      await sleep(50);
    }
  };
  await heard(2);
  cut();
  await heard(covered.length + 2);
  t.is(subscriptions, 2);
  cut();
  await third;
  redis.disconnect();
  await allEnded();
  await new Promise(setImmediate);
  t.deepEqual(unhandled, []);
  t.deepEqual(covered.slice(0, 2), [true, false], 'a stop order covers the jobs of its own run only');
});

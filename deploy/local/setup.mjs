import './node-version.mjs';
import { fileURLToPath } from 'node:url';
import { build, ensureDependencies } from './dependencies.mjs';
import { ensurePrograms } from './programs.mjs';
import { redisFault, startPrivateRedis } from './redis.mjs';
import { fail, say } from './steps.mjs';

/**
 * Makes this machine ready: npm packages, compiled program, ffmpeg, Redis. Resolves with `startRedis()`, which gives
 * `{ url, own, stop }`: the Redis of REDIS_URL when it answers (`own` false, `stop` leaves it alone), else a private one.
 * `optional` are programs that only some tests need. Throws a `SetupError` with one sentence when something is missing
 * that it may not install. With ROBOFLOW_SETUP=done in the environment, packages and build are taken as they are: the
 * tests run scripts that set up while others use what was built.
 */
export async function setUp({ optional = [] } = {}) {
  const done = process.env.ROBOFLOW_SETUP === 'done';
  if (!done) await ensureDependencies();
  const url = process.env.REDIS_URL;
  const fault = url ? await redisFault(url) : undefined;
  const external = url && fault === undefined;
  if (fault) say(`${fault}: starting a private one instead.`);
  const programs = await ensurePrograms({ required: external ? ['ffmpeg'] : ['redis', 'ffmpeg'], optional });
  if (!done) await build();
  return {
    programs,
    startRedis: async () =>
      external
        ? { url, own: false, stop: async () => undefined }
        : { ...(await startPrivateRedis(programs.get('redis'))), own: true },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setUp().then(() => say('ready: npm run demo, npm test, npm start'), fail);
}

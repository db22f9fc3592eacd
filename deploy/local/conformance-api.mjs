import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startService } from './service.mjs';
import { projectRoot, run } from './steps.mjs';

/** Much longer than a run takes on two slow cores. */
const TIMEOUT_MS = 15 * 60_000;

/**
 * Asks a running service everything that its own description allows, and what it forbids, with schemathesis (the program
 * `schemathesis`). The service is API only: what is enqueued is never converted, so that the locations of the examples in
 * its description, which its roots allow, need not exist.
 * `seed` decides what is asked. Resolves with checks `{id, ok, message}`; the message of a failure is all that was said.
 */
export async function tryApi(schemathesis, redis, work, seed) {
  await mkdir(work, { recursive: true });
  const folder = await mkdtemp(join(work, 'api-'));
  const { signal } = new AbortController();
  const env = { WORKERS: '0', SOURCE_ROOTS: 'file:///data/', DESTINATION_ROOTS: 'file:///datasets/' };
  const log = join(work, 'api.log');
  const service = await startService({ redis, folder, work: folder, log, logFormat: 'json', signal, env });
  try {
    const output = await run(
      schemathesis,
      [
        '--config-file',
        join(projectRoot, 'test/conformance/schemathesis.toml'),
        'run',
        `${service.url}/openapi.json`,
        '--checks=all',
        '--no-color',
        ...(seed === undefined ? [] : [`--seed=${seed}`]),
        `--header=Authorization: Bearer ${service.token}`,
      ],
      { cwd: folder, whole: true, timeoutMs: TIMEOUT_MS },
    ).then(
      (text) => ({ text, ok: true }),
      (error) => ({ text: error.message, ok: false }),
    );
    const summary = /^(API Operations:[^]*?)^(?:=+|Seed)/m.exec(output.text)?.[1] ?? output.text.slice(-1500);
    await service.request('GET', '/v1/datasets');
    return [{ id: 'schemathesis', ok: output.ok, message: output.ok ? summary.trim() : output.text }];
  } finally {
    await service.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

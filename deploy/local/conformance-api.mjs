import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startService } from './service.mjs';
import { projectRoot, run } from './steps.mjs';

/**
 * Asks a running service everything that its own description allows, and what it forbids, with schemathesis (the program
 * `schemathesis`). The service is API only: what is enqueued is never converted, so that the locations of the examples in
 * its description, which its roots allow, need not exist.
 * Resolves with checks `{id, ok, message}`, one for each kind of check that was made.
 */
export async function tryApi(schemathesis, redis, work) {
  await mkdir(work, { recursive: true });
  const folder = await mkdtemp(join(work, 'api-'));
  const { signal } = new AbortController();
  const env = { WORKERS: '0', SOURCE_ROOTS: 'file:///data/', DESTINATION_ROOTS: 'file:///datasets/' };
  const log = join(work, 'api.log');
  const service = await startService({ redis, folder, work: folder, log, logFormat: 'json', signal, env });
  const report = join(folder, 'report.xml');
  try {
    const output = await run(
      schemathesis,
      [
        '--config-file',
        join(projectRoot, 'test/conformance/schemathesis.toml'),
        'run',
        `${service.url}/openapi.json`,
        '--checks=all',
        `--header=Authorization: Bearer ${service.token}`,
        '--report=junit',
        `--report-junit-path=${report}`,
      ],
      { cwd: folder },
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

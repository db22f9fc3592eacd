import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The compiled program. */
export const program = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

/** How a run of the program ended. */
export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** Runs `roboflow` without a terminal; `input` is its standard input (default: none), `onError` sees what it complains of. */
export async function roboflow(
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: Record<string, string>;
    readonly input?: string;
    readonly onError?: (text: string) => void;
  } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [program, ...args], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { PATH: process.env['PATH'] ?? '', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => {
    stderr += data.toString();
    options.onError?.(data.toString());
  });
  // A program that does not read its input may be gone before it is written.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  return await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

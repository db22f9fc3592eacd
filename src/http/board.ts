import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, extname, join, sep } from 'node:path';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import type {
  AppControllerRoute,
  AppViewRoute,
  BullBoardQueues,
  IServerAdapter,
  UIConfig,
} from '@bull-board/api/typings/app';
import Router from '@koa/router';
import ejs from 'ejs';
import type { Context } from 'koa';
import { toError } from '../errors.ts';
import type { Producer } from '../queue/producer.ts';
import { Problem } from './problem.ts';

const BASE = '/queues';
/** What the board's page needs and the API does not: its own scripts and styles. */
const CONTENT_POLICY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; frame-ancestors 'none'";

/**
 * bull-board at `/queues`: what the queues themselves hold, for looking only. Changes go through the API, which knows
 * what belongs to a job beside the queue.
 */
export function createBoardRouter(producer: Producer): Router {
  const { datasets, episodes } = producer.client;
  const router = new Router();
  const adapter = new ReadOnlyRoutes(router);
  createBullBoard({
    queues: [datasets, episodes].map((queue) => new BullMQAdapter(queue, { readOnlyMode: true })),
    serverAdapter: adapter,
    options: {
      uiBasePath: dirname(createRequire(import.meta.url).resolve('@bull-board/ui/package.json')),
      uiConfig: { boardTitle: 'roboflow-worker' },
    },
  });
  adapter.mount();
  return router;
}

/** Puts the board's page, its files and its reading routes on a router. */
class ReadOnlyRoutes implements IServerAdapter {
  readonly #router: Router;
  #queues: BullBoardQueues = new Map();
  #views = '';
  #statics = '';
  #entry: AppViewRoute | undefined;
  #routes: readonly AppControllerRoute[] = [];
  #config: UIConfig = {};

  constructor(router: Router) {
    this.#router = router;
  }

  setQueues(queues: BullBoardQueues): this {
    this.#queues = queues;
    return this;
  }
  setViewsPath(path: string): this {
    this.#views = path;
    return this;
  }
  setStaticPath(_route: string, path: string): this {
    this.#statics = path;
    return this;
  }
  setEntryRoute(entry: AppViewRoute): this {
    this.#entry = entry;
    return this;
  }
  setErrorHandler(): this {
    return this;
  }
  setApiRoutes(routes: AppControllerRoute[]): this {
    this.#routes = routes;
    return this;
  }
  setUIConfig(config: UIConfig): this {
    this.#config = config;
    return this;
  }

  /** Everything that reads; what changes is not mounted at all. */
  mount(): void {
    this.#router.get(`${BASE}/static/*file`, (ctx) => this.#file(ctx));
    for (const route of this.#routes) {
      if (![route.method].flat().includes('get')) continue;
      for (const path of [route.route].flat())
        this.#router.get(BASE + path, (ctx) => this.#answer(ctx, route, ctx.params));
    }
    for (const path of [this.#entry?.route ?? []].flat()) {
      this.#router.get(BASE + (path === '/' ? '' : path), (ctx) => this.#page(ctx));
    }
  }

  async #answer(ctx: Context, route: AppControllerRoute, params: Record<string, string>): Promise<void> {
    try {
      const { status, body } = await route.handler({
        queues: this.#queues,
        uiConfig: this.#config,
        params,
        query: { ...ctx.query },
        body: {},
        headers: ctx.headers as Record<string, string>,
      });
      ctx.status = status ?? 200;
      ctx.body = body;
    } catch (thrown) {
      throw new Problem(503, 'the board cannot read the queues now', { cause: toError(thrown) });
    }
  }

  async #page(ctx: Context): Promise<void> {
    const view = this.#entry?.handler({ basePath: BASE, uiConfig: this.#config });
    if (!view) throw new Problem(404, 'the board has no page');
    ctx.set('Content-Security-Policy', CONTENT_POLICY);
    ctx.type = 'html';
    ctx.body = await ejs.renderFile(join(this.#views, view.name), view.params);
  }

  async #file(ctx: Context): Promise<void> {
    const path = join(this.#statics, decoded(ctx.path.slice(`${BASE}/static/`.length)));
    const found = path.startsWith(this.#statics + sep) ? await stat(path).catch(() => undefined) : undefined;
    if (!found?.isFile()) throw new Problem(404, `nothing is served at ${ctx.path.slice(0, 200)}`);
    // A worker keeps to the policy its file came with, not to the page's: the one that colours errors loads more scripts.
    ctx.set('Content-Security-Policy', CONTENT_POLICY);
    ctx.set('Cache-Control', 'private, max-age=86400');
    ctx.type = extname(path);
    ctx.length = found.size;
    ctx.body = createReadStream(path);
  }
}

/** The text of a path; as it is where it is not well encoded, which is no file's name. */
function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch (thrown) {
    if (thrown instanceof URIError) return path;
    throw thrown;
  }
}

import Router from '@koa/router';
import { z } from 'zod';
import { datasetEventSchema, EVENT_ID, jobEventSchema, progressEventSchema } from '../queue/events.ts';
import {
  appendRequestSchema,
  configDescription,
  configSchema,
  datasetIdSchema,
  enqueuedSchema,
  enqueueRequestSchema,
} from '../queue/jobs.ts';
import { datasetShape, jobShape } from '../queue/shapes.ts';
import { watchRequestSchema, watchShape } from '../queue/watches.ts';
import { datasetPage, datasetQuery } from './datasets.ts';
import { eventQuery } from './events.ts';
import { jobChangedSchema, jobPage, jobQuery } from './jobs.ts';
import { problemBody } from './problem.ts';
import { scalingShape } from './scaling.ts';
import { watchList } from './watches.ts';

/** The description of the API (OpenAPI 3.1), made from the schemas that validate it. */

type Operation = {
  readonly method: 'get' | 'post' | 'delete';
  readonly path: string;
  readonly summary: string;
  readonly open?: true;
  readonly query?: z.ZodObject;
  readonly body?: string;
  readonly status: 200 | 202 | 204;
  readonly answer: string;
  readonly mediaType?: string;
  /** Statuses of problems beside 401, 403, 429 and 503. */
  readonly problems: readonly number[];
};

const schemas = {
  Enqueue: enqueueRequestSchema,
  Append: appendRequestSchema,
  Enqueued: enqueuedSchema,
  JobChanged: jobChangedSchema,
  Dataset: datasetShape,
  DatasetPage: datasetPage,
  Job: jobShape,
  JobPage: jobPage,
  Scaling: scalingShape,
  WatchRequest: watchRequestSchema,
  Watch: watchShape,
  WatchList: watchList,
  JobEvent: jobEventSchema,
  DatasetEvent: datasetEventSchema,
  ProgressEvent: progressEventSchema,
  Problem: problemBody,
  Report: z.looseObject({ status: z.string() }),
  Verdict: z.looseObject({}),
} as const;

const INPUTS: ReadonlySet<string> = new Set(['Enqueue', 'Append', 'WatchRequest']);

const exampleConfig = {
  fps: 30,
  features: {
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};
const recordings = [{ source: 'file:///data/run-1.mcap', task: 'Carry the ball.' }];
const output = 'file:///datasets/joints';

/** A body of each kind, as people begin with. */
const examples: Readonly<Record<string, object>> = {
  Enqueue: { datasetId: 'joints', output, config: exampleConfig, recordings },
  Append: { recordings },
  WatchRequest: { datasetId: 'joints', output, config: exampleConfig, prefix: 'file:///data/' },
};

/** Operations that go on with what an answer names: their parameter `id` is at `id` of it. */
const links: Readonly<Record<string, { readonly id: string; readonly to: readonly string[] }>> = {
  Enqueued: {
    id: '$response.body#/datasetId',
    to: [
      'get_datasets_id',
      'get_datasets_id_events',
      'post_datasets_id_episodes',
      'post_datasets_id_cancel',
      'post_datasets_id_retry',
    ],
  },
  JobPage: {
    id: '$response.body#/items/0/jobId',
    to: ['get_jobs_id', 'post_jobs_id_cancel', 'post_jobs_id_retry'],
  },
  Watch: { id: '$response.body#/watchId', to: ['delete_watches_id'] },
};

/** An event of the stream; what `data` holds is told by `event`. */
const eventSchema = {
  type: 'object',
  properties: {
    id: { type: 'string', pattern: EVENT_ID.source },
    event: { enum: ['job', 'dataset', 'progress'] },
    data: {
      type: 'string',
      contentMediaType: 'application/json',
      contentSchema: { anyOf: ['JobEvent', 'DatasetEvent', 'ProgressEvent'].map(ref) },
    },
  },
  required: ['event', 'data'],
};

const change = { method: 'post', status: 202 } as const;
const look = { method: 'get', status: 200 } as const;
const probe = { ...look, open: true, problems: [] } as const;

const operations: readonly Operation[] = [
  {
    ...change,
    path: '/v1/datasets',
    summary: 'Enqueue recordings of a dataset, which is made when it is new',
    body: 'Enqueue',
    answer: 'Enqueued',
    problems: [400, 409, 413, 415, 422],
  },
  {
    ...look,
    path: '/v1/datasets',
    summary: 'List datasets, newest first',
    query: datasetQuery,
    answer: 'DatasetPage',
    problems: [400],
  },
  { ...look, path: '/v1/datasets/{id}', summary: 'Status of a dataset', answer: 'Dataset', problems: [404] },
  {
    ...change,
    path: '/v1/datasets/{id}/episodes',
    summary: 'Append recordings to a dataset',
    body: 'Append',
    answer: 'Enqueued',
    problems: [400, 404, 409, 413, 415, 422],
  },
  {
    ...change,
    path: '/v1/datasets/{id}/cancel',
    summary: 'Stop what waits and runs',
    answer: 'Enqueued',
    problems: [400, 404, 409],
  },
  {
    ...change,
    path: '/v1/datasets/{id}/retry',
    summary: 'Convert again what failed or was cancelled',
    answer: 'Enqueued',
    problems: [400, 404, 409],
  },
  {
    ...look,
    path: '/v1/datasets/{id}/events',
    summary: 'Server-sent events: `job` (JobEvent), `dataset` (DatasetEvent), `progress` (ProgressEvent)',
    query: eventQuery,
    answer: '',
    mediaType: 'text/event-stream',
    problems: [400, 404],
  },
  { ...look, path: '/v1/jobs', summary: 'List jobs', query: jobQuery, answer: 'JobPage', problems: [400] },
  { ...look, path: '/v1/jobs/{id}', summary: 'Status of a job', answer: 'Job', problems: [404] },
  {
    ...change,
    path: '/v1/jobs/{id}/cancel',
    summary: 'Stop a job',
    answer: 'JobChanged',
    problems: [400, 404, 409],
  },
  {
    ...change,
    path: '/v1/jobs/{id}/retry',
    summary: 'Convert a failed recording again',
    answer: 'JobChanged',
    problems: [400, 404, 409],
  },
  {
    ...look,
    path: '/v1/scaling',
    summary: 'The work there is, for an autoscaler',
    answer: 'Scaling',
    problems: [],
  },
  {
    ...change,
    path: '/v1/watches',
    summary: 'Watch a prefix: what appears below it is enqueued when it is complete',
    body: 'WatchRequest',
    answer: 'Watch',
    problems: [400, 409, 413, 415, 422],
  },
  { ...look, path: '/v1/watches', summary: 'List watches', answer: 'WatchList', problems: [] },
  {
    method: 'delete',
    status: 204,
    path: '/v1/watches/{id}',
    summary: 'End a watch',
    answer: '',
    problems: [404],
  },
  { ...probe, path: '/health', summary: 'Full report of the service', answer: 'Report' },
  { ...probe, path: '/livez', summary: 'Liveness', answer: 'Verdict' },
  { ...probe, path: '/readyz', summary: 'Readiness', answer: 'Verdict' },
  { ...probe, path: '/metrics', summary: 'Metrics of this pod', answer: '', mediaType: 'text/plain' },
];

/** `GET /openapi.json`. */
export function createOpenApiRouter(version: string): Router {
  const router = new Router();
  const document = describeApi(version);
  router.get('/openapi.json', (ctx) => {
    ctx.body = document;
  });
  return router;
}

/** The whole document. */
export function describeApi(version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of operations) {
    paths[operation.path] = { ...paths[operation.path], [operation.method]: describe(operation) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'roboflow-worker',
      version,
      description: 'Converts robot recordings into LeRobot datasets.',
    },
    paths,
    components: {
      schemas: {
        ...Object.fromEntries(
          Object.entries(schemas).map(([name, schema]) => [name, jsonSchema(schema, INPUTS.has(name))]),
        ),
        DatasetConfig: withoutDialect(configDescription()),
      },
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
    },
    security: [{ token: [] }],
  };
}

function describe(operation: Operation): object {
  const { summary, body, status, answer, mediaType = 'application/json', open, problems } = operation;
  const plain = mediaType === 'text/event-stream' ? eventSchema : { type: 'string' };
  const content = { [mediaType]: { schema: answer === '' ? plain : ref(answer) } };
  const refusals = open ? problems : [...problems, 401, 403, 429];
  return {
    operationId: idOf(operation),
    summary,
    ...(open ? { security: [] } : {}),
    parameters: parametersOf(operation),
    ...(body
      ? {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: ref(body), example: examples[body] } },
          },
        }
      : {}),
    responses: {
      [status]:
        status === 204
          ? { description: 'Done' }
          : { description: status === 202 ? 'Accepted' : 'OK', content, ...linksOf(answer) },
      ...Object.fromEntries(refusals.toSorted((a, b) => a - b).map((code) => [code, problem(code)])),
      503: open && answer !== '' ? { description: 'No', content } : problem(503),
    },
  };
}

function linksOf(answer: string): object {
  const link = links[answer];
  if (!link) return {};
  const parameters = { id: link.id };
  return {
    links: Object.fromEntries(link.to.map((operationId) => [operationId, { operationId, parameters }])),
  };
}

function problem(status: number): object {
  return {
    description: `Problem (${status})`,
    content: { 'application/problem+json': { schema: ref('Problem') } },
  };
}

function parametersOf({ path, method, query, open, mediaType }: Operation): object[] {
  const header = (name: string, pattern: string) => ({
    name,
    in: 'header',
    required: false,
    schema: { type: 'string', pattern },
  });
  const shape = query ? (jsonSchema(query, true) as { properties?: Record<string, object> }) : {};
  return [
    ...(path.includes('{id}') ? [{ name: 'id', in: 'path', required: true, schema: idSchema(path) }] : []),
    ...Object.entries(shape.properties ?? {}).map(([name, schema]) => ({
      name,
      in: 'query',
      required: false,
      schema,
    })),
    ...(method === 'post' && !open ? [header('Idempotency-Key', '^[\\x21-\\x7e]{1,255}$')] : []),
    ...(mediaType === 'text/event-stream' ? [header('Last-Event-ID', EVENT_ID.source)] : []),
  ];
}

function idSchema(path: string): object {
  return path.startsWith('/v1/datasets')
    ? jsonSchema(datasetIdSchema, true)
    : { type: 'string', minLength: 1 };
}

function idOf({ method, path }: Operation): string {
  const words = path.split('/').filter((word) => word !== '' && word !== 'v1');
  return [method, ...words].map((word) => word.replaceAll(/\W/g, '')).join('_');
}

function jsonSchema(schema: z.ZodType, input: boolean): object {
  const described = z.toJSONSchema(schema, {
    io: input ? 'input' : 'output',
    override: ({ zodSchema, jsonSchema: made }) => {
      if ((zodSchema as unknown) === configSchema) Object.assign(made, ref('DatasetConfig'));
    },
  });
  return withoutDialect(described);
}

/** Schemas of a document share its dialect. */
function withoutDialect(schema: object): object {
  const { $schema: _, ...rest } = schema as { $schema?: unknown };
  return rest;
}

function ref(name: string): { $ref: string } {
  return { $ref: `#/components/schemas/${name}` };
}

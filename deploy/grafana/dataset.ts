import type { DashboardSpec } from './build.ts';
import { JOB } from './queries.ts';

const EPISODES = 'roboflow_episodes_processed_total';
const CHOSEN = `${JOB},dataset_id=~"$dataset"`;

/** One dataset, or all beside each other. The API and the manifests have the exact list; this has the course of time. */
export const dataset: DashboardSpec = {
  uid: 'roboflow-dataset',
  title: 'roboflow / Dataset',
  description: 'Episodes of one dataset, or of all beside each other.',
  variables: [{ name: 'dataset', label: 'Dataset', query: `label_values(${EPISODES}{${JOB}}, dataset_id)` }],
  rows: [
    {
      title: 'Range shown',
      panels: [
        ...(['completed', 'failed', 'cancelled', 'skipped'] as const).map((status) => ({
          kind: 'stat' as const,
          title: `Episodes ${status}`,
          description: `Ended as ${status} in the range that is shown.`,
          unit: 'short',
          width: 6,
          queries: [
            {
              expr: `round(sum (increase(${EPISODES}{${CHOSEN},status="${status}"}[$__range])))`,
              legend: status,
            },
          ],
          thresholds:
            status === 'failed'
              ? { base: 'green', steps: [[1, 'red'] as const] }
              : { base: 'blue', steps: [] },
        })),
        {
          kind: 'stacked',
          title: 'Episodes per minute by status',
          description: 'Terminal outcomes of the chosen datasets.',
          unit: 'none',
          width: 12,
          queries: [
            {
              expr: `60 * sum by (status) (rate(${EPISODES}{${CHOSEN}}[$__rate_interval]))`,
              legend: '{{status}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'Episodes ended, by dataset',
          description: 'Total of the life of the pods that are alive.',
          unit: 'short',
          width: 12,
          queries: [{ expr: `sum by (dataset_id) (${EPISODES}{${CHOSEN}})`, legend: '{{dataset_id}}' }],
        },
        {
          kind: 'table',
          title: 'Datasets',
          description:
            'Episodes by dataset and status in the range that is shown; __other__ = beyond the label budget.',
          unit: 'short',
          width: 24,
          queries: [
            {
              expr: `round(sum by (dataset_id, status) (increase(${EPISODES}{${CHOSEN}}[$__range])))`,
              legend: '',
            },
          ],
        },
      ],
    },
  ],
};

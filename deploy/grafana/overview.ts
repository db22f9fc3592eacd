import type { DashboardSpec } from './build.ts';
import { JOB, overRange, perSecond, quantile, shared, total } from './queries.ts';

const EPISODES = 'roboflow_episodes_ended_total';
/** Jobs in states of the episode queue, once for all pods. */
const jobs = (states: string) =>
  `sum (max by (state) (roboflow_queue_jobs{${JOB},queue="episodes",state=~"${states}"}))`;

/** Episodes ended per second, over 15 minutes or the life of each pod where that is shorter. */
const pace =
  `sum (sum by (job, instance) (increase(${EPISODES}{${JOB}}[15m])) / on (job, instance) ` +
  `clamp_max(time() - process_start_time_seconds{${JOB}}, 900))`;

/** Is it working, how fast, when is it done, what is wrong. */
export const overview: DashboardSpec = {
  uid: 'roboflow-overview',
  title: 'roboflow / Overview',
  description: 'Is it working, how fast, when is it done, what is wrong.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          kind: 'stat',
          title: 'Episodes completed',
          description: 'In the range that is shown.',
          unit: 'short',
          width: 3,
          queries: [{ expr: `round(${overRange(EPISODES, [], 'status="completed"')})`, legend: 'completed' }],
          thresholds: { base: 'green', steps: [] },
        },
        {
          kind: 'stat',
          title: 'Episodes failed',
          description: 'For good, in the range that is shown. The API lists each with its reason.',
          unit: 'short',
          width: 3,
          queries: [{ expr: `round(${overRange(EPISODES, [], 'status="failed"')})`, legend: 'failed' }],
          thresholds: { base: 'green', steps: [[1, 'red']] },
        },
        {
          kind: 'stat',
          title: 'Work left',
          description: 'Episode jobs that wait, run or are delayed; pods look every 10 s.',
          unit: 'short',
          width: 3,
          queries: [{ expr: jobs('waiting|prioritized|active|delayed'), legend: 'left' }],
          thresholds: { base: 'blue', steps: [] },
        },
        {
          kind: 'stat',
          title: 'Time left',
          description:
            'Work left divided by the pace of the last 15 minutes (of a younger pod: of its life); infinite when nothing ends.',
          unit: 's',
          width: 3,
          queries: [
            {
              expr: `${jobs('waiting|prioritized|active|delayed')} / ${pace}`,
              legend: 'left',
            },
          ],
          thresholds: { base: 'blue', steps: [] },
        },
        {
          kind: 'stat',
          title: 'Oldest waiting',
          description: 'Age of the job that has waited longest.',
          unit: 's',
          width: 3,
          queries: [
            {
              expr: shared('roboflow_queue_oldest_waiting_seconds', [], 'queue="episodes"'),
              legend: 'oldest',
            },
          ],
          thresholds: { base: 'green', steps: [[3600, 'orange']] },
        },
        {
          kind: 'stat',
          title: 'Slots busy',
          description: 'Share of worker slots that hold a conversion.',
          unit: 'percentunit',
          width: 3,
          queries: [
            {
              expr: `${total('roboflow_active_conversions')} / (${total('roboflow_worker_slots')} > 0)`,
              legend: 'busy',
            },
          ],
          thresholds: { base: 'blue', steps: [] },
        },
        {
          kind: 'stat',
          title: 'Redis',
          description: '1 when every pod reaches Redis and it keeps jobs safely.',
          unit: 'short',
          width: 3,
          queries: [
            {
              expr: `min (roboflow_redis_up{${JOB}}) * min (roboflow_redis_config_ok{${JOB}})`,
              legend: 'ok',
            },
          ],
          thresholds: { base: 'red', steps: [[1, 'green']] },
        },
        {
          kind: 'stat',
          title: 'Pods',
          description: 'Pods that answer their scrape.',
          unit: 'short',
          width: 3,
          queries: [{ expr: `count (up{${JOB}} == 1)`, legend: 'pods' }],
          thresholds: { base: 'red', steps: [[1, 'green']] },
        },
      ],
    },
    {
      title: 'Throughput',
      panels: [
        {
          kind: 'series',
          title: 'Recording seconds per second',
          description: 'How many times faster than real time recordings become rows.',
          unit: 'none',
          width: 8,
          queries: [{ expr: perSecond('roboflow_recording_seconds_total'), legend: 'all pods' }],
        },
        {
          kind: 'series',
          title: 'Frames per second',
          description: 'Dataset rows of completed conversions, and video frames over all cameras.',
          unit: 'none',
          width: 8,
          queries: [
            { expr: perSecond('roboflow_frames_processed_total'), legend: 'rows' },
            { expr: perSecond('roboflow_video_frames_encoded_total'), legend: 'video frames' },
          ],
        },
        {
          kind: 'stacked',
          title: 'Episodes per minute by status',
          description: 'Terminal outcomes; attempts that will be repeated are not in here.',
          unit: 'none',
          width: 8,
          queries: [{ expr: `60 * ${perSecond(EPISODES, ['status'])}`, legend: '{{status}}' }],
        },
      ],
    },
    {
      title: 'Queue and saturation',
      panels: [
        {
          kind: 'stacked',
          title: 'Episode jobs by state',
          description: 'The same queue seen by every pod every 10 s, hence the maximum.',
          unit: 'short',
          width: 8,
          queries: [
            { expr: shared('roboflow_queue_jobs', ['state'], 'queue="episodes"'), legend: '{{state}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Wait before the first attempt',
          description: 'From enqueueing to the start of the first attempt.',
          unit: 's',
          width: 8,
          queries: [
            { expr: quantile(0.5, 'roboflow_job_wait_seconds'), legend: 'p50' },
            { expr: quantile(0.95, 'roboflow_job_wait_seconds'), legend: 'p95' },
          ],
        },
        {
          kind: 'series',
          title: 'Slots',
          description: 'Slots there should be, workers alive, and conversions running.',
          unit: 'short',
          width: 8,
          queries: [
            { expr: total('roboflow_worker_slots'), legend: 'slots' },
            { expr: total('roboflow_cluster_workers'), legend: 'workers' },
            { expr: total('roboflow_active_conversions'), legend: 'converting' },
          ],
        },
      ],
    },
    {
      title: 'Trouble',
      panels: [
        {
          kind: 'series',
          title: 'Share of episodes that fail',
          description: 'Of those tried (completed or failed), over one hour. The objective is 1 %.',
          unit: 'percentunit',
          width: 8,
          queries: [
            {
              expr: `sum (rate(${EPISODES}{${JOB},status="failed"}[1h])) / sum (rate(${EPISODES}{${JOB},status=~"completed|failed"}[1h]))`,
              legend: 'failed',
            },
          ],
          max: 1,
        },
        {
          kind: 'stacked',
          title: 'Attempts per minute by outcome',
          description:
            'Attempts that were retried, requeued or lost are followed by another; an episode has one outcome.',
          unit: 'none',
          width: 8,
          queries: [
            { expr: `60 * ${perSecond('roboflow_job_attempts_total', ['outcome'])}`, legend: '{{outcome}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Lost and handed back',
          description:
            'Workers replaced, jobs stalled, locks lost and jobs handed back, over the panel’s interval.',
          unit: 'short',
          width: 8,
          queries: [
            {
              expr: `sum by (reason) (increase(roboflow_worker_restarts_total{${JOB}}[$__rate_interval]))`,
              legend: 'restart: {{reason}}',
            },
            {
              expr: `sum (increase(roboflow_jobs_stalled_total{${JOB}}[$__rate_interval]))`,
              legend: 'stalled',
            },
            {
              expr: `sum (increase(roboflow_job_lock_lost_total{${JOB}}[$__rate_interval]))`,
              legend: 'lock lost',
            },
            {
              expr: `sum by (reason) (increase(roboflow_jobs_requeued_total{${JOB}}[$__rate_interval]))`,
              legend: 'handed back: {{reason}}',
            },
          ],
        },
      ],
    },
  ],
};

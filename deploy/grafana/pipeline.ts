import type { DashboardSpec } from './build.ts';
import { JOB, perSecond, quantile, total } from './queries.ts';

/** Where the time of an episode goes, and what is lost on the way. */
export const pipeline: DashboardSpec = {
  uid: 'roboflow-pipeline',
  title: 'roboflow / Pipeline',
  description: 'Where the time of an episode goes, and what is lost on the way.',
  rows: [
    {
      title: 'Stages',
      panels: [
        {
          kind: 'series',
          title: 'Stage duration, median',
          description: 'Half of the runs of a stage take less.',
          unit: 's',
          width: 8,
          queries: [
            { expr: quantile(0.5, 'roboflow_stage_duration_seconds', ['stage']), legend: '{{stage}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Stage duration, p95',
          description: 'One run in twenty takes longer.',
          unit: 's',
          width: 8,
          queries: [
            { expr: quantile(0.95, 'roboflow_stage_duration_seconds', ['stage']), legend: '{{stage}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Episode duration',
          description: 'From the start of the last attempt to the manifest.',
          unit: 's',
          width: 8,
          queries: [
            { expr: quantile(0.5, 'roboflow_episode_processing_duration_seconds'), legend: 'p50' },
            { expr: quantile(0.95, 'roboflow_episode_processing_duration_seconds'), legend: 'p95' },
          ],
        },
      ],
    },
    {
      title: 'Conversion',
      panels: [
        {
          kind: 'series',
          title: 'Encoding duration of a camera',
          description: 'Per camera and episode, while the encoder ran.',
          unit: 's',
          width: 8,
          queries: [
            { expr: quantile(0.5, 'roboflow_video_encoding_duration_seconds'), legend: 'p50' },
            { expr: quantile(0.95, 'roboflow_video_encoding_duration_seconds'), legend: 'p95' },
          ],
        },
        {
          kind: 'stacked',
          title: 'Video frames per second by camera',
          description: 'Frames the encoder accepted and the video contains.',
          unit: 'none',
          width: 8,
          queries: [
            { expr: perSecond('roboflow_video_frames_encoded_total', ['camera']), legend: '{{camera}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Buffers',
          description:
            'Decoded messages and frames between reader and writers; near BUFFER_MAX_BYTES the encoder sets the pace.',
          unit: 'bytes',
          width: 8,
          queries: [{ expr: total('roboflow_buffer_usage_bytes', ['instance']), legend: '{{instance}}' }],
        },
        {
          kind: 'series',
          title: 'Alignment',
          description: 'Values held or interpolated and rows dropped, per second.',
          unit: 'none',
          width: 12,
          queries: [
            { expr: perSecond('roboflow_frames_held_total'), legend: 'held' },
            { expr: perSecond('roboflow_frames_interpolated_total'), legend: 'interpolated' },
            { expr: perSecond('roboflow_frames_dropped_total'), legend: 'rows dropped' },
          ],
        },
        {
          kind: 'series',
          title: 'Damage in recordings',
          description: 'Samples that came too late and messages that did not decode, per second.',
          unit: 'none',
          width: 12,
          queries: [
            { expr: perSecond('roboflow_samples_late_total'), legend: 'late' },
            { expr: perSecond('roboflow_decode_errors_total'), legend: 'undecodable' },
          ],
        },
      ],
    },
    {
      title: 'Storage',
      panels: [
        {
          kind: 'stacked',
          title: 'Read by source',
          description: 'Bytes taken from source stores; the cache reads nothing.',
          unit: 'Bps',
          width: 8,
          queries: [{ expr: perSecond('roboflow_bytes_read_total', ['source']), legend: '{{source}}' }],
        },
        {
          kind: 'stacked',
          title: 'Written by kind',
          description: 'Bytes of finished objects.',
          unit: 'Bps',
          width: 8,
          queries: [
            {
              expr: perSecond('roboflow_bytes_written_total', ['destination', 'type']),
              legend: '{{destination}} {{type}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'Source cache',
          description: 'Look-ups per second that the cache answered, and that went to the source.',
          unit: 'none',
          width: 8,
          queries: [
            { expr: perSecond('roboflow_cache_hit_total'), legend: 'hits' },
            { expr: perSecond('roboflow_cache_miss_total'), legend: 'misses' },
          ],
        },
        {
          kind: 'series',
          title: 'Upload duration, p95',
          description: 'Per acknowledged file.',
          unit: 's',
          width: 6,
          queries: [
            {
              expr: quantile(0.95, 'roboflow_upload_duration_seconds', ['file_type']),
              legend: '{{file_type}}',
            },
          ],
        },
        {
          kind: 'stacked',
          title: 'Upload retries by reason',
          description: 'Per second.',
          unit: 'none',
          width: 6,
          queries: [{ expr: perSecond('roboflow_upload_retries_total', ['reason']), legend: '{{reason}}' }],
        },
        {
          kind: 'series',
          title: 'Uploads pending',
          description: 'Files handed over and not yet acknowledged.',
          unit: 'short',
          width: 6,
          queries: [{ expr: total('roboflow_pending_uploads'), legend: 'files' }],
        },
        {
          kind: 'series',
          title: 'Upload rate',
          description: 'Bytes that the destination acknowledged.',
          unit: 'Bps',
          width: 6,
          queries: [{ expr: perSecond('roboflow_upload_bytes_total'), legend: 'acknowledged' }],
        },
        {
          kind: 'series',
          title: 'Upload bytes in flight',
          description: 'Bytes of files that are sent and not yet acknowledged.',
          unit: 'bytes',
          width: 12,
          queries: [{ expr: total('roboflow_inflight_bytes'), legend: 'in flight' }],
        },
        {
          kind: 'series',
          title: 'Scratch space free',
          description: 'Share of the file system of SCRATCH_DIR.',
          unit: 'percentunit',
          width: 12,
          queries: [
            {
              expr: `min by (instance) (roboflow_scratch_free_bytes{${JOB}} / roboflow_scratch_size_bytes{${JOB}})`,
              legend: '{{instance}}',
            },
          ],
          max: 1,
        },
      ],
    },
  ],
};

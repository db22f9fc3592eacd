import { EPISODE_STATUSES, FILE_TYPES, RETRY_REASONS, STORES, type MetricDefinition } from './definition.ts';
import { operatorCatalogue } from './operator-catalogue.ts';

const EPISODE_SECONDS = [
  1, 5, 10, 20, 30, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 2700, 3600, 7200,
];
const ENCODE_SECONDS = [0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180, 300, 600, 1200, 1800];
const UPLOAD_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];

const core = {
  episodesProcessed: {
    name: 'roboflow_episodes_processed_total',
    type: 'counter',
    help: 'Episodes that reached a terminal outcome.',
    labels: ['dataset_id', 'status'],
    closed: { status: EPISODE_STATUSES },
    aggregator: 'sum',
  },
  episodeDuration: {
    name: 'roboflow_episode_processing_duration_seconds',
    type: 'histogram',
    help: 'From the start of the last attempt of a completed or failed episode to its manifest.',
    labels: [],
    buckets: EPISODE_SECONDS,
    exemplars: true,
    aggregator: 'sum',
  },
  framesProcessed: {
    name: 'roboflow_frames_processed_total',
    type: 'counter',
    help: 'Dataset rows written by completed conversions.',
    labels: [],
    aggregator: 'sum',
  },
  bytesRead: {
    name: 'roboflow_bytes_read_total',
    type: 'counter',
    help: 'Bytes taken from a source store.',
    labels: ['source'],
    closed: { source: STORES },
    aggregator: 'sum',
  },
  bytesWritten: {
    name: 'roboflow_bytes_written_total',
    type: 'counter',
    help: 'Bytes of finished objects by store and kind, the ledger included.',
    labels: ['destination', 'type'],
    closed: { destination: STORES, type: FILE_TYPES },
    aggregator: 'sum',
  },
  uploadDuration: {
    name: 'roboflow_upload_duration_seconds',
    type: 'histogram',
    help: 'Time from the first byte sent to the acknowledgement of a file.',
    labels: ['file_type'],
    closed: { file_type: FILE_TYPES },
    buckets: UPLOAD_SECONDS,
    aggregator: 'sum',
  },
  uploadRetries: {
    name: 'roboflow_upload_retries_total',
    type: 'counter',
    help: 'Upload attempts that failed and were tried again, by reason.',
    labels: ['reason'],
    closed: { reason: RETRY_REASONS },
    aggregator: 'sum',
  },
  uploadBytes: {
    name: 'roboflow_upload_bytes_total',
    type: 'counter',
    help: 'Bytes acknowledged by the destination store.',
    labels: [],
    aggregator: 'sum',
  },
  pendingUploads: {
    name: 'roboflow_pending_uploads',
    type: 'gauge',
    help: 'Files handed to the upload coordinator and not yet acknowledged.',
    labels: [],
    aggregator: 'sum',
  },
  bufferUsage: {
    name: 'roboflow_buffer_usage_bytes',
    type: 'gauge',
    help: 'Bytes of decoded messages and frames held between reader and writers.',
    labels: [],
    aggregator: 'sum',
  },
  cacheHit: {
    name: 'roboflow_cache_hit_total',
    type: 'counter',
    help: 'Look-ups in the source cache that were answered from it.',
    labels: [],
    aggregator: 'sum',
  },
  cacheMiss: {
    name: 'roboflow_cache_miss_total',
    type: 'counter',
    help: 'Look-ups in the source cache that went to the source.',
    labels: [],
    aggregator: 'sum',
  },
  activeConversions: {
    name: 'roboflow_active_conversions',
    type: 'gauge',
    help: 'Conversions running now.',
    labels: [],
    aggregator: 'sum',
  },
  videoEncodingDuration: {
    name: 'roboflow_video_encoding_duration_seconds',
    type: 'histogram',
    help: 'Time the encoder of one camera of one episode ran; cameras copied without re-encoding have none.',
    labels: [],
    buckets: ENCODE_SECONDS,
    aggregator: 'sum',
  },
  videoFramesEncoded: {
    name: 'roboflow_video_frames_encoded_total',
    type: 'counter',
    help: 'Frames the encoder accepted and the published video contains; cameras copied without re-encoding add none.',
    labels: ['camera'],
    aggregator: 'sum',
  },
} as const satisfies Record<string, MetricDefinition>;

/**
 * Every metric the service exposes, defined once: the registries, the table in the docs and the lint of rules and
 * dashboards are made from this list.
 */
export const catalogue = { ...core, ...operatorCatalogue } as const;

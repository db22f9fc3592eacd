import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, gauge, histogram } from './define.ts';
import { EPISODE_STATUSES, type STAGES } from './definition.ts';

/** The counts of an alignment report that are summed over episodes; `AlignmentReport` fits by shape. */
export type AlignmentCounts = {
  readonly droppedRows: number;
  readonly sources: readonly {
    readonly held: number;
    readonly interpolated: number;
    readonly late: number;
    readonly undecodable: number;
  }[];
};

/** What the conversion loop and the queue consumer count. */
export function createConversionMetrics(registry: Registry) {
  const stageDuration = histogram(registry, catalogue.stageDuration);
  const episodeDuration = histogram(registry, catalogue.episodeDuration);
  const episodesProcessed = counter(registry, catalogue.episodesProcessed);
  const alignment = {
    held: counter(registry, catalogue.framesHeld),
    interpolated: counter(registry, catalogue.framesInterpolated),
    dropped: counter(registry, catalogue.framesDropped),
    late: counter(registry, catalogue.samplesLate),
    undecodable: counter(registry, catalogue.decodeErrors),
  };
  return {
    episodesProcessed,
    episodesEnded: counter(registry, catalogue.episodesEnded),
    episodeDuration,
    framesProcessed: counter(registry, catalogue.framesProcessed),
    activeConversions: gauge(registry, catalogue.activeConversions),
    stageDuration,
    recordingSeconds: counter(registry, catalogue.recordingSeconds),
    lastSuccess: gauge(registry, catalogue.lastSuccess),

    /** Makes the outcomes of a dataset visible at 0 before its first episode ends, so that no increase is missed. */
    expectDataset(datasetId: string): void {
      for (const status of EPISODE_STATUSES) episodesProcessed.inc({ dataset_id: datasetId, status }, 0);
    },

    /** Times an episode's end; the job is the exemplar of its bucket. */
    observeEpisode(seconds: number, jobId: string): void {
      const exemplarLabels = { job_id: jobId };
      episodeDuration.observe({ labels: {}, value: seconds, exemplarLabels });
    },

    /** Adds what alignment did in one completed conversion. */
    countAlignment(report: AlignmentCounts): void {
      alignment.dropped.inc(report.droppedRows);
      for (const source of report.sources) {
        alignment.held.inc(source.held);
        alignment.interpolated.inc(source.interpolated);
        alignment.late.inc(source.late);
        alignment.undecodable.inc(source.undecodable);
      }
    },

    /** Times `work` as one run of a stage, however it ends. */
    async timeStage<T>(stage: (typeof STAGES)[number], work: () => Promise<T>): Promise<T> {
      const end = stageDuration.startTimer({ stage });
      try {
        return await work();
      } finally {
        end();
      }
    },
  };
}

export type ConversionMetrics = ReturnType<typeof createConversionMetrics>;

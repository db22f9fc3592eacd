import { UploadCoordinator, type UploadCoordinatorOptions } from '../storage/coordinator.ts';
import type { ConversionContext } from './types.ts';

/** The coordinator of uploads to a conversion's output; the caller closes it. */
export function openUploads(
  context: Pick<ConversionContext, 'output' | 'upload' | 'metrics' | 'signal' | 'log'>,
  onProgress?: UploadCoordinatorOptions['onProgress'],
): UploadCoordinator {
  const { output, upload, metrics, signal, log } = context;
  return new UploadCoordinator({
    storage: output,
    ...upload,
    metrics: { storage: metrics.storage, upload: metrics.upload },
    signal,
    log,
    onProgress,
  });
}

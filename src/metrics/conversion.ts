import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, gauge, histogram } from './define.ts';

/** What the conversion loop and the queue consumer count. */
export function createConversionMetrics(registry: Registry) {
  return {
    episodesProcessed: counter(registry, catalogue.episodesProcessed),
    episodeDuration: histogram(registry, catalogue.episodeDuration),
    framesProcessed: counter(registry, catalogue.framesProcessed),
    activeConversions: gauge(registry, catalogue.activeConversions),
  };
}

export type ConversionMetrics = ReturnType<typeof createConversionMetrics>;

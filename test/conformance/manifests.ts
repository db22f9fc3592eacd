// Renders the chart with every set of values into one JSON file: what Kubernetes itself knows, by set.
import { writeFile } from 'node:fs/promises';
import { chartTools, chartValueSets, renderChart } from '../helpers/chart.ts';

const tools = await chartTools();
const sets: Record<string, unknown> = {};
for (const [name, values] of Object.entries(chartValueSets)) {
  const manifests = await renderChart(tools, values);
  sets[name] = manifests.filter(
    ({ apiVersion }) => !/^(keda\.sh|monitoring\.coreos\.com)\//.test(apiVersion),
  );
}
await writeFile(process.argv[2] ?? 'manifests.json', JSON.stringify(sets));

import { throwIfUnread, toError } from '../errors.ts';
import type { CheckList } from './check-list.ts';
import { TASKS_PATH } from './layout.ts';
import { openParquet } from './parquet.ts';
import type { DeclaredInfo } from './read-info.ts';
import type { StatementId } from './statements.ts';
import type { DatasetFiles } from './types.ts';

/** Examines `tasks.parquet` and returns its texts by number. */
export async function verifyTasks(
  files: DatasetFiles,
  info: DeclaredInfo,
  list: CheckList<StatementId>,
): Promise<string[]> {
  if ((await files.head(TASKS_PATH)) === undefined) {
    list.fault('tasks', `${TASKS_PATH} is missing`);
    return [];
  }
  list.examine('tasks');
  const file = await files.open(TASKS_PATH);
  try {
    const table = await openParquet(file, TASKS_PATH);
    const column = indexColumn(table.footer('pandas'));
    list.expect(
      'tasks',
      column !== undefined,
      () => `${TASKS_PATH} has no pandas footer that names the text as index`,
    );
    const texts: string[] = [];
    for (let group = 0; group < table.metadata.row_groups.length; group += 1) {
      const rows = await table.rowGroup(group);
      const numbers = rows.get('task_index') ?? [];
      const own = rows.get(column ?? 'task') ?? [];
      for (let i = 0; i < numbers.length; i += 1) {
        list.expect(
          'tasks',
          Number(numbers[i]) === texts.length,
          () => `row ${texts.length} is task ${String(numbers[i])}`,
        );
        const text: unknown = own[i];
        list.expect(
          'tasks',
          typeof text === 'string' && !texts.includes(text),
          () => `task ${i} is ${String(text)}`,
        );
        texts.push(String(text));
      }
    }
    const right = texts.length === info.tasks && texts.length > 0;
    list.expect('totals', right, () => `${texts.length} tasks, info.json says ${info.tasks}`);
    return texts;
  } catch (error) {
    throwIfUnread(error);
    list.fault('tasks', toError(error).message);
    return [];
  } finally {
    await file.close();
  }
}

/** The column that pandas takes for the index. */
function indexColumn(footer: string | undefined): string | undefined {
  if (footer === undefined) return undefined;
  try {
    const { index_columns: columns } = JSON.parse(footer) as { index_columns?: unknown[] };
    const [name] = columns ?? [];
    return typeof name === 'string' ? name : undefined;
  } catch {
    return undefined;
  }
}

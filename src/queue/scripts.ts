import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { toError } from '../errors.ts';

/** A Lua script: one atomic step on several keys. */
export type Script = (
  redis: Redis,
  keys: readonly string[],
  args: readonly (string | number)[],
) => Promise<unknown>;

function script(lua: string): Script {
  const sha = createHash('sha1').update(lua).digest('hex');
  return async (redis, keys, args) => {
    const rest = [...keys, ...args];
    try {
      return await redis.evalsha(sha, keys.length, ...rest);
    } catch (thrown) {
      if (!toError(thrown).message.startsWith('NOSCRIPT')) throw thrown;
      return await redis.eval(lua, keys.length, ...rest);
    }
  };
}

/** Lua that adds an event to a dataset's stream; the last 1,000 are kept, for a week. */
const TELL = `
  local function tell(stream, ...)
    redis.call('XADD', stream, 'MAXLEN', '~', 1000, '*', ...)
    redis.call('EXPIRE', stream, 604800)
  end
`;

/**
 * Makes a run known, once: registers the dataset when it is new and makes the run its newest.
 * KEYS dataset, run, index, runs, events · ARGV runId, datasetId, output, now (ms), spec (JSON), state.
 * Returns 1 when done now, 0 when it was done before, -1 when the dataset writes somewhere else.
 */
export const commitRun = script(`${TELL}
  local output = redis.call('HGET', KEYS[1], 'output')
  if output and output ~= ARGV[3] then return -1 end
  if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
  if not output then
    redis.call('HSET', KEYS[1], 'datasetId', ARGV[2], 'output', ARGV[3], 'createdAt', ARGV[4])
    redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
  end
  redis.call('HSET', KEYS[1], 'runId', ARGV[1], 'state', ARGV[6])
  redis.call('HDEL', KEYS[1], 'finishedAt', 'reason', 'published')
  redis.call('PERSIST', KEYS[1])
  redis.call('HSET', KEYS[2], 'runId', ARGV[1], 'datasetId', ARGV[2], 'createdAt', ARGV[4],
    'spec', ARGV[5], 'state', ARGV[6])
  redis.call('ZADD', KEYS[4], ARGV[4], ARGV[1])
  tell(KEYS[5], 'dataset', ARGV[1], 'state', ARGV[6])
  return 1
`);

/**
 * Puts recordings of a run into the dataset: new ones at the end, known ones become the new run's and count as not
 * ended. Safe to repeat.
 * KEYS dataset, entries, order, outcomes, completed, failed, cancelled, skipped · ARGV runId, then key, source, task ('' = none) …
 */
export const mergeEntries = script(`
  for i = 2, #ARGV, 3 do
    local key = ARGV[i]
    local text = redis.call('HGET', KEYS[2], key)
    local entry = text and cjson.decode(text) or { seq = redis.call('HINCRBY', KEYS[1], 'seq', 1) }
    if entry.runId ~= ARGV[1] then
      entry.runId = ARGV[1]
      entry.source = ARGV[i + 1]
      entry.task = ARGV[i + 2] ~= '' and ARGV[i + 2] or nil
      local outcome = redis.call('HGET', KEYS[4], key)
      if outcome then
        local frames = cjson.decode(outcome).frames
        if frames > 0 then redis.call('HINCRBY', KEYS[1], 'frames', -frames) end
        redis.call('HDEL', KEYS[4], key)
        for k = 5, 8 do redis.call('ZREM', KEYS[k], key) end
      end
      redis.call('HSET', KEYS[2], key, cjson.encode(entry))
      redis.call('ZADD', KEYS[3], entry.seq, key)
    end
  end
  return 1
`);

/**
 * Gives every recording its video slot, once. KEYS dataset, entries · ARGV keys…. Returns the slots in the same order
 * (-1: no such recording).
 */
export const assignSlots = script(`
  local slots = {}
  for i, key in ipairs(ARGV) do
    local text = redis.call('HGET', KEYS[2], key)
    if not text then slots[i] = -1 else
      local entry = cjson.decode(text)
      if not entry.slot then
        entry.slot = redis.call('HINCRBY', KEYS[1], 'slots', 1) - 1
        redis.call('HSET', KEYS[2], key, cjson.encode(entry))
      end
      slots[i] = entry.slot
    end
  end
  return slots
`);

/**
 * Takes recordings of the ledger over into a dataset that Redis does not know (any more): slots stay what they were.
 * KEYS dataset, entries, order, outcomes, completed, failed, cancelled, skipped ·
 * ARGV next free slot, then key, slot, entry (JSON), state ('' = not ended), outcome (JSON) ….
 */
export const adoptEntries = script(`
  local nextSlot = tonumber(ARGV[1])
  if nextSlot > tonumber(redis.call('HGET', KEYS[1], 'slots') or '0') then
    redis.call('HSET', KEYS[1], 'slots', nextSlot)
  end
  local zsets = { completed = KEYS[5], failed = KEYS[6], cancelled = KEYS[7], skipped = KEYS[8] }
  for i = 2, #ARGV, 5 do
    local key, slot = ARGV[i], tonumber(ARGV[i + 1])
    local text = redis.call('HGET', KEYS[2], key)
    local entry = cjson.decode(text or ARGV[i + 2])
    if not entry.slot then
      entry.slot = slot
      if not text then
        entry.seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
        redis.call('ZADD', KEYS[3], entry.seq, key)
        if ARGV[i + 3] ~= '' then
          redis.call('HSET', KEYS[4], key, ARGV[i + 4])
          redis.call('ZADD', zsets[ARGV[i + 3]], entry.seq, key)
          redis.call('HINCRBY', KEYS[1], 'frames', cjson.decode(ARGV[i + 4]).frames)
        end
      end
      redis.call('HSET', KEYS[2], key, cjson.encode(entry))
    end
  end
  return 1
`);

/**
 * Records how a recording ended, unless a newer run has taken it over; a cancelled dataset ends with the last of its
 * recordings. Safe to repeat.
 * KEYS dataset, entries, outcomes, completed, failed, cancelled, skipped, events, order · ARGV key, runId, state,
 * outcome (JSON), '1' to leave an outcome of the same run as it is.
 */
export const recordOutcome = script(`${TELL}
  local text = redis.call('HGET', KEYS[2], ARGV[1])
  if not text then return 0 end
  local entry = cjson.decode(text)
  if entry.runId ~= ARGV[2] then return 0 end
  local zsets = { completed = KEYS[4], failed = KEYS[5], cancelled = KEYS[6], skipped = KEYS[7] }
  local before = redis.call('HGET', KEYS[3], ARGV[1])
  if before and ARGV[5] == '1' then return 0 end
  for _, zset in pairs(zsets) do redis.call('ZREM', zset, ARGV[1]) end
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
  redis.call('ZADD', zsets[ARGV[3]], entry.seq, ARGV[1])
  local delta = cjson.decode(ARGV[4]).frames - (before and cjson.decode(before).frames or 0)
  if delta ~= 0 then redis.call('HINCRBY', KEYS[1], 'frames', delta) end
  if before ~= ARGV[4] then tell(KEYS[8], 'job', ARGV[1], 'outcome', ARGV[4]) end
  local runId, state, finishedAt = unpack(redis.call('HMGET', KEYS[1], 'runId', 'state', 'finishedAt'))
  if state == 'cancelled' and not finishedAt then
    local open = redis.call('ZCARD', KEYS[9])
    for _, zset in pairs(zsets) do open = open - redis.call('ZCARD', zset) end
    if open == 0 then
      redis.call('HSET', KEYS[1], 'finishedAt', string.format('%.0f', cjson.decode(ARGV[4]).finishedAt))
      tell(KEYS[8], 'dataset', runId, 'state', state)
    end
  end
  return 1
`);

/**
 * Sets fields of a run, and of its dataset while the run is the newest. What is marked as cancelled does not go on, what
 * is being published is not cancelled any more, and a cancelled run keeps the time of its end.
 * KEYS dataset, run, events · ARGV runId, then field, value … ('' removes the field); the first field is the state.
 * Returns 1, 0 when the run is not the newest, -1 when nothing was set.
 */
export const setState = script(`${TELL}
  local newest = redis.call('HGET', KEYS[1], 'runId') == ARGV[1]
  local before, marked = unpack(redis.call('HMGET', KEYS[2], 'state', 'cancelled'))
  local state = ARGV[3]
  if marked and (state == 'converting' or state == 'finalizing') then return -1 end
  if before == 'finalizing' and state == 'cancelled' and #ARGV == 3 then return -1 end
  for i = 2, #ARGV, 2 do
    for k = 1, 2 do
      if k == 2 or newest then
        if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[k], ARGV[i])
        elseif state == 'cancelled' and ARGV[i] == 'finishedAt' then
          redis.call('HSETNX', KEYS[k], ARGV[i], ARGV[i + 1])
        else redis.call('HSET', KEYS[k], ARGV[i], ARGV[i + 1]) end
      end
    end
  end
  if newest then tell(KEYS[3], 'dataset', ARGV[1], 'state', ARGV[3]) end
  return newest and 1 or 0
`);

/**
 * Claims something for the job that holds a queue lock. A claim is worth as much as its holder's lock, which the queue
 * renews while the holder lives: the claim of a dead worker is void without any clean-up.
 * KEYS claim, lock of the job that asks · ARGV token. Returns '' when claimed, else the lock key of the holder.
 */
export const claim = script(`
  local mine = KEYS[2] .. '|' .. ARGV[1]
  local held = redis.call('GET', KEYS[1])
  if held and held ~= mine then
    local bar = string.find(held, '|', 1, true)
    local lock = string.sub(held, 1, bar - 1)
    if redis.call('GET', lock) == string.sub(held, bar + 1) then return lock end
  end
  redis.call('SET', KEYS[1], mine, 'EX', 604800)
  return ''
`);

/** Gives a claim back. KEYS claim, lock of the holder · ARGV token. */
export const release = script(`
  if redis.call('GET', KEYS[1]) == KEYS[2] .. '|' .. ARGV[1] then redis.call('DEL', KEYS[1]) end
  return 1
`);

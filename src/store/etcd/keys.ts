/**
 * Where things are in etcd, under a name (`contiv` where none is given). What watchers follow is one range, in the order of etcd's revisions:
 *
 *   NAME/data...      keys and values of the store, in JSON
 *   NAME/each         changes with each transaction: which was the last, and so at which revision anything changed last
 *   NAME/epoch        a large transaction is under way (epoch.ts)
 *   -----
 *   NAME/id           of the store
 *   NAME/staged/...   writes of large transactions (epoch.ts)
 */
import type { Entry, Write } from '../store.ts';
import type { Compare, KeyValue, Operation } from './protocol.ts';

const bytes = (text: string): Buffer => Buffer.from(text);

export interface Range {
  readonly key: Buffer;
  readonly rangeEnd?: Buffer;
}

export interface Keys {
  readonly each: Buffer;
  readonly epoch: Buffer;
  readonly id: Buffer;
  readonly staged: Buffer;
  stagedOf(id: string, piece?: string | number): Buffer;
  data(key: string): Buffer;
  isData(kv: KeyValue): boolean;
  keyOf(kv: KeyValue): string;
  entryOf(kv: KeyValue): Entry;
  operationOf(write: Write): Operation;
  /** All that watchers follow. */
  readonly followed: Range;
}

export function openKeys(name = 'contiv'): Keys {
  const data = bytes(`${name}/data`);
  const epoch = bytes(`${name}/epoch`);
  const staged = bytes(`${name}/staged/`);
  const dataOf = (key: string): Buffer => bytes(`${name}/data${key}`);
  const keyOf = ({ key }: KeyValue): string => key.subarray(data.length).toString('utf8');
  return {
    each: bytes(`${name}/each`),
    epoch,
    id: bytes(`${name}/id`),
    staged,
    stagedOf: (id, piece = '') => bytes(`${name}/staged/${id}/${piece}`),
    data: dataOf,
    isData: ({ key }) => key.subarray(0, data.length).equals(data),
    keyOf,
    entryOf(kv) {
      const lease = leaseOf(kv);
      return {
        key: keyOf(kv),
        value: parse(kv),
        revision: revisionOf(kv),
        ...(lease === undefined ? {} : { lease }),
      };
    },
    operationOf: ({ key, value, lease }) =>
      value === undefined ? { delete: { key: dataOf(key) } } : put(dataOf(key), value, lease),
    followed: { key: data, rangeEnd: Buffer.concat([epoch, Buffer.from([0])]) },
  };
}

/** All keys that begin so. */
export function under(prefix: Buffer): Required<Range> {
  const rangeEnd = Buffer.from(prefix);
  rangeEnd[rangeEnd.length - 1] = (rangeEnd.at(-1) as number) + 1;
  return { key: prefix, rangeEnd };
}

export const isAt = (key: Buffer, modRevision: number): Compare => ({ target: 'MOD', key, modRevision });
export const isThere = (key: Buffer): Compare => ({ ...isAt(key, 0), result: 'NOT_EQUAL' });
export const put = (key: Buffer, value: unknown, lease?: string): Operation => ({
  put: { key, value: bytes(JSON.stringify(value)), ...(lease === undefined ? {} : { lease }) },
});
export const range = (key: Buffer): Operation => ({ range: { key } });
export const remove = (of: Range): Operation => ({ delete: of });

export const revisionOf = (kv: KeyValue | undefined): number => Number(kv?.modRevision ?? 0);
export const parse = (kv: KeyValue): unknown => JSON.parse(kv.value.toString('utf8'));
export const leaseOf = ({ lease }: KeyValue): string | undefined => (lease === '0' ? undefined : lease);

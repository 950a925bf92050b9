/** Creating, updating and deleting intent: validate, allocate, decide on one transaction. */

import type { TObject, TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import type { Kind, Problem } from '../model/kind.ts';
import { keyOf } from '../model/kinds.ts';
import type { Check, Write } from '../store/store.ts';
import { nextTag } from './allocator/tags.ts';
import { type Mirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Decision } from './writer.ts';

type Plain = Record<string, unknown>;

function refuse(problem: Problem): never {
  throw new Refusal(problem.status ?? 422, problem.message, problem.field);
}

/** In words, what a field may hold. */
function expected(schema: TSchema): string {
  if (Array.isArray(schema.anyOf)) return `one of ${schema.anyOf.map((s: TSchema) => s.const).join(', ')}`;
  if (schema.const !== undefined) return `'${schema.const}'`;
  if (schema.type === 'integer')
    return `a whole number from ${schema.minimum ?? 0} to ${schema.maximum ?? Number.MAX_SAFE_INTEGER}`;
  if (schema.type === 'string') return `text of at most ${schema.maxLength ?? 256} characters`;
  if (schema.type === 'array') return `a list of at most ${schema.maxItems ?? 64} names, each once`;
  return `of type ${schema.type}`;
}

/** The object as the caller means it: known fields only, the key's fields from the URL where the body has none. */
export function readObject(kind: Kind, key: string, body: unknown): Plain {
  const what = `${kind.name} ${key.slice(0, 200)}`;
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new Refusal(400, `${what}: the body must be a JSON object`);
  // links are computed, whatever the client sends in them
  const { links: _links, 'link-sets': _sets, key: _key, ...given } = body as Plain;
  const object: Plain = {};
  for (const [field, value] of Object.entries(given)) {
    if (!(field in (kind.schema as TObject).properties))
      throw new Refusal(
        400,
        `${what}: ${JSON.stringify(field.slice(0, 64))} is not a field; the fields are ${Object.keys(kind.schema.properties).join(', ')}`,
        field.slice(0, 64),
      );
    // 1.x clients send zero values for what is unset.
    if (value !== '' && value !== 0 && !(Array.isArray(value) && value.length === 0)) object[field] = value;
  }
  const parts = key.split(':');
  for (const [i, field] of kind.keyFields.entries()) {
    object[field] ??= parts[i] ?? '';
    if (object[field] !== parts[i] || parts.length !== kind.keyFields.length)
      throw new Refusal(400, `${what}: the URL must end in ${kind.keyFields.join(':')} of the body`, field);
  }
  for (const error of Value.Errors(kind.schema, object)) {
    const [, field = ''] = error.path.split('/');
    const schema = (kind.schema as TObject).properties[field];
    refuse({
      status: 400,
      field,
      message:
        schema === undefined
          ? `${what}: ${error.message}`
          : `${what}: ${field} ${object[field] === undefined ? 'is missing: it' : ''} must be ${expected(schema)}`.replace(
              '  ',
              ' ',
            ),
    });
  }
  return kind.normalize?.(object as never) ?? object;
}

/** Checks that what an object refers to is there; the transaction relies on it staying. */
function checkReferences(kind: Kind, key: string, object: Plain, mirror: Mirror): Check[] {
  const checks: Check[] = [];
  for (const reference of kind.references)
    for (const target of reference.keys(object as never)) {
      const stored = mirror.stored(reference.kind, target);
      if (stored === undefined)
        refuse({
          status: 404,
          field: reference.field,
          message: `${kind.name} ${key}: ${reference.field} names ${reference.kind} ${target}, which does not exist`,
        });
      checks.push({ key: storeKey(reference.kind, target), revision: stored.revision });
    }
  return checks;
}

export type WriteMode = 'post' | 'put';

export function decideWrite(
  kind: Kind,
  key: string,
  object: Plain,
  mode: WriteMode,
  mirror: Mirror,
): Decision<Plain> {
  const before = mirror.stored<Plain>(kind.name, key);
  if (before !== undefined && !kind.updatable) {
    if (mode === 'post') throw new Refusal(409, `${kind.name} ${key} exists already`);
    const { vni: _, ...same } = before.object;
    if (Value.Equal(same, object)) return { checks: [], writes: [], answer: before.object };
    throw new Refusal(409, `${kind.name} ${key} exists and cannot change: delete it and create it anew`);
  }
  const checks = checkReferences(kind, key, object, mirror);
  const problem = kind.check?.(object as never, mirror, before?.object as never);
  if (problem !== undefined) refuse(problem);
  const writes: Write[] = [];
  let stored = object;
  if (kind.name === 'network') {
    const vni =
      (object.pktTag as number | undefined) ?? nextTag(mirror, object.encap as 'vlan' | 'vxlan', key);
    stored = { ...object, vni };
    const tag = storeKey('tag', `${object.encap}/${vni}`);
    const taken = mirror.stored<{ network: string }>('tag', `${object.encap}/${vni}`);
    if (taken !== undefined)
      throw new Refusal(
        409,
        `network ${key}: pktTag ${vni} is taken by network ${taken.object.network}; choose another, or none to be given a free one`,
        'pktTag',
      );
    checks.push({ key: tag, revision: 0 });
    writes.push({ key: tag, value: { network: key } });
  }
  checks.push({ key: storeKey(kind.name, key), revision: before?.revision ?? 0 });
  // Names are unique over networks and groups of a tenant: concurrent creates of either must see each other.
  for (const name of claimedNames(kind, object)) {
    const claim = mirror.stored<{ by: string }>('name', name);
    const by = `${kind.name} ${key}`;
    if (claim !== undefined && claim.object.by !== by)
      throw new Refusal(409, `${by}: its name is taken by ${claim.object.by}`);
    checks.push({ key: storeKey('name', name), revision: claim?.revision ?? 0 });
    if (claim === undefined) writes.push({ key: storeKey('name', name), value: { by } });
  }
  writes.push({ key: storeKey(kind.name, key), value: stored });
  return { checks, writes, answer: stored };
}

/** Names that containers can look up, each of one owner. */
function claimedNames(kind: Kind, object: Plain): string[] {
  const name =
    kind.name === 'network'
      ? object.networkName
      : kind.name === 'endpointGroup'
        ? object.groupName
        : undefined;
  return name === undefined ? [] : [`${object.tenantName}/${String(name).toLowerCase()}`];
}

export function decideDelete(kind: Kind, key: string, mirror: Mirror): Decision<Plain> {
  const stored = mirror.stored<Plain>(kind.name, key);
  if (stored === undefined) throw new Refusal(404, `${kind.name} ${key} does not exist`);
  const problem = kind.checkRemoval?.(stored.object as never, mirror);
  if (problem !== undefined) refuse(problem);
  const users = [...mirror.referrers(kind.name, key).values()].flatMap((keys) =>
    [...keys].map(([user, type]) => `${type} ${user}`),
  );
  users.push(...endpointUsers(kind, key, mirror));
  if (users.length > 0) {
    const shown = users.slice(0, 5).join(', ');
    const more = users.length > 5 ? ` and ${users.length - 5} more` : '';
    throw new Refusal(409, `${kind.name} ${key} is in use by ${shown}${more}: delete them first`);
  }
  const writes: Write[] = [{ key: storeKey(kind.name, key), value: undefined }];
  if (kind.name === 'network') {
    writes.push({ key: storeKey('tag', `${stored.object.encap}/${stored.object.vni}`), value: undefined });
    for (const [cursor] of mirror.entries('cursor'))
      if (cursor.startsWith(`${key}/`)) writes.push({ key: storeKey('cursor', cursor), value: undefined });
    for (const address of mirror.addresses(key).keys())
      writes.push({ key: storeKey('address', `${key}/${address}`), value: undefined });
  }
  for (const name of claimedNames(kind, stored.object))
    writes.push({ key: storeKey('name', name), value: undefined });
  return {
    // Within this replica writes come one after the other, so nothing that refers to it can slip in.
    checks: [{ key: storeKey(kind.name, key), revision: stored.revision }],
    writes,
    answer: stored.object,
  };
}

function endpointUsers(kind: Kind, key: string, mirror: Mirror): string[] {
  if (kind.name !== 'network' && kind.name !== 'endpointGroup') return [];
  const field = kind.name === 'network' ? 'networkName' : 'groupName';
  return mirror
    .list<Record<string, string | undefined>>('endpoint')
    .filter((e) => `${e.tenantName}:${e[field]}` === key)
    .map((e) => `container ${e.containerName ?? e.endpointID} on ${e.homingHost}`);
}

/** For answers: `key`, the links, nothing that is empty, nothing of ours. */
export function present(kind: Kind, stored: Plain, mirror: Mirror): Plain {
  const key = keyOf(kind, stored);
  const links: Plain = Object.fromEntries((kind.emptyLinks ?? []).map((name) => [name, {}]));
  const sets: Record<string, Plain> = {};
  for (const { link, many, kind: type, keys } of kind.references) {
    if (link === undefined) continue;
    const targets = keys(stored as never);
    if (many) {
      if (targets.length > 0) sets[link] = Object.fromEntries(targets.map((k) => [k, { type, key: k }]));
    } else links[link] = targets[0] === undefined ? {} : { type, key: targets[0] };
  }
  for (const [name, users] of mirror.referrers(kind.name, key))
    sets[name] = Object.fromEntries([...users].sort().map(([k, type]) => [k, { type, key: k }]));
  const fields = Object.entries(stored).filter(
    ([name, value]) =>
      name in (kind.schema as TObject).properties &&
      value !== '' &&
      value !== 0 &&
      value !== false &&
      !(Array.isArray(value) && value.length === 0),
  );
  return {
    key,
    ...Object.fromEntries(fields),
    'link-sets': sets,
    ...(Object.keys(links).length > 0 ? { links } : {}),
  };
}

/** What names may look like, and how an object is called in messages. */
import { Type } from '@sinclair/typebox';
import type { Problem } from './kind.ts';

/** A DNS label (RFC 1123): tenants, networks, groups and services are looked up by name. */
const LABEL = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const WORD = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;

/** A host's name: DNS labels, also with '_' as some hosts have it. It travels in a header, separated by commas. */
const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$/;
export const isHostName = (name: string): boolean => HOST.test(name);

export const Name = (description: string) => Type.String({ description, minLength: 1, maxLength: 63 });

export function checkLabel(what: string, field: string, name: string): Problem | undefined {
  if (LABEL.test(name)) return undefined;
  return {
    field,
    status: 400,
    message: `${what} '${name}': ${field} must be a DNS label: 1 to 63 letters, digits or '-', not at either end`,
  };
}

/** What `docker run --net` takes for something else. */
const OF_DOCKER = ['bridge', 'host', 'none', 'default'];

/** Networks and groups of tenant default, which Docker has by their name alone. */
export function checkDockerName(what: string, field: string, name: string): Problem | undefined {
  if (!OF_DOCKER.includes(name)) return undefined;
  return {
    field,
    status: 400,
    message: `${what} '${name}': ${field} must not be ${OF_DOCKER.join(', ')}: to docker run --net they are Docker's own`,
  };
}

/** Policies, rules and profiles, which are in no DNS name. */
export function checkWord(what: string, field: string, name: string): Problem | undefined {
  if (WORD.test(name)) return undefined;
  return {
    field,
    status: 400,
    message: `${what} '${name}': ${field} must be 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends`,
  };
}

/**
 * The agent's side of CNI. contiv-cni (src/cni/) hands over what a runtime asks of it, on the control socket:
 *
 *   request.ts    what it says           asked.ts      what is asked for: tenant, network, group, addresses, ports
 *   commands.ts   ADD, DEL, CHECK, ...   workloads.ts  waits for a pod's workload
 *   result.ts     what was given, as a result of each version; errors.ts: why not
 *   install.ts    puts the executable and its configuration where runtimes look
 */
import path from 'node:path';
import type { Logger } from 'pino';
import type { Follower } from '../../follower.ts';
import type { Publications } from '../publish.ts';
import type { Endpoints } from '../runtime.ts';
import { openCommands } from './commands.ts';
import { CniError, CODES } from './errors.ts';
import { install, type Places, PROGRAM_NAME } from './install.ts';
import { type CniRequest, type Json, readRequest, VERSIONS, versionOf } from './request.ts';
import { openWorkloads } from './workloads.ts';

export interface CniAnswer {
  readonly ok: boolean;
  /** '' for none. */
  readonly text: string;
}

export interface CniRuntime extends Follower {
  /** To the body of one request. Never rejects. `gone`: the caller has hung up. */
  answer(body: Buffer, gone: AbortSignal): Promise<CniAnswer>;
}

export interface CniOptions {
  readonly endpoints: Endpoints;
  readonly publications: Publications;
  readonly places: Places;
  readonly log: Logger;
  /** Told of a container that was not attached, in a line. */
  denied(text: string): void;
}

/** Beside this program (bin/.bundle). */
const PROGRAM = path.join(import.meta.dirname, PROGRAM_NAME);

export function openCni({ endpoints, publications, places, log, denied }: CniOptions): CniRuntime {
  let failed = false;

  /** Once more with each verification: what somebody has taken away comes back. */
  function keepInstalled(): void {
    try {
      for (const file of install(places, PROGRAM)) log.info({ file }, 'installed for container runtimes');
      failed = false;
    } catch (error) {
      if (!failed) log.error({ err: error }, 'contiv-cni is not installed; it is tried again');
      failed = true;
    }
  }

  const workloads = openWorkloads(endpoints);
  const commands = openCommands({ endpoints, publications, workloads, log });
  return {
    name: 'pods',
    awaited: 'never',
    changed(news) {
      workloads.changed(news);
      if (news.type === 'kernel' && news.verified && endpoints.ready()) keepInstalled();
      return false;
    },
    settled: () => Promise.resolve(),
    close() {},
    async answer(body, gone) {
      let request: CniRequest | undefined;
      try {
        request = readRequest(body);
        const answer = await commands.run(request, gone);
        return { ok: true, text: answer === undefined ? '' : `${JSON.stringify(answer)}\n` };
      } catch (error) {
        log.warn({ err: error }, 'a CNI command is refused');
        if (request?.command === 'ADD') denied(denialOf(request, error as Error));
        return { ok: false, text: `${JSON.stringify(errorOf(body, error))}\n` };
      }
    },
  };
}

/** In the words of the refusal, which may name the pod. */
function denialOf(request: CniRequest, { message }: Error): string {
  const name = namedIn(request);
  return message.includes(name) ? message : `${name}: ${message}`;
}

function namedIn({ args, container }: CniRequest): string {
  const { K8S_POD_NAMESPACE: namespace, K8S_POD_NAME: name } = args;
  return name === undefined ? `container ${container}` : `pod ${namespace}/${name}`;
}

function errorOf(body: Buffer, error: unknown): Json {
  const code = error instanceof CniError ? error.code : CODES.refused;
  return { cniVersion: askedVersion(body), code, msg: (error as Error).message };
}

/** As far as it can be told. */
function askedVersion(body: Buffer): string {
  try {
    return versionOf(JSON.parse(body.toString('utf8', body.indexOf('\0\0') + 2)));
  } catch {
    return VERSIONS[VERSIONS.length - 1] as string;
  }
}

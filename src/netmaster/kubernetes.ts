/**
 * A Kubernetes cluster that says who asks: netmaster believes a token of a service account where the API server does (TokenReview), so that
 * nodes' agents and netkube get their certificates without a secret that anyone has to make, hand out or renew.
 *
 *   kubelet --token: service account, pod, node; for audience `contiv`, an hour--> pod --join--> netmaster --TokenReview--> API server
 *
 * What the token must be is said by the cluster's own authority, not by the pod: kubelet gets one only for a pod that is bound to its node.
 * Whom the pods believe is in ConfigMap `contiv-authority`, which netmaster writes.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import type { Logger } from 'pino';
import { readText } from '../client/textFile.ts';
import { inTurn, type Turns } from '../turns.ts';
import { openAttempts } from './attempts.ts';
import { Refusal } from './problem.ts';

/** Where kubelet puts the token, authority and namespace of a pod's service account; a Secret of one has the same three. */
export const ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';
/** That tokens are for: one that is for the API server, or anybody else, is no good here. */
export const AUDIENCE = 'contiv';
/** Their names in netmaster's namespace. */
const ACCOUNTS = { netplugin: 'host', netkube: 'orchestrator' } as const;
const AUTHORITY = 'contiv-authority';
/** Milliseconds for an answer of the API server. */
const ANSWER = 5000;
/** Questions that are on their way at a time, as who shows a token is not known before. */
const AT_ONCE = 16;
/** Of one address: an agent asks once in months, but all that a node has may ask. */
const PACE = { burst: 20, every: 1000 } as const;
/** Milliseconds until the authority is written again, where it was not; and looked at, where it was. */
const AGAIN = 5000;
const LOOK = 60_000;

export interface KubernetesOptions {
  /** https://HOST:PORT */
  readonly url: string;
  readonly folder: string;
}

/** Whom a token is: the agent of that node, or a controller. */
export interface Attested {
  readonly role: (typeof ACCOUNTS)[keyof typeof ACCOUNTS];
  /** Of the node; of the controller's pod. */
  readonly name: string;
  /** For events: `pod contiv-system/netplugin-x7k2p`. */
  readonly by: string;
}

export interface Kubernetes {
  /** Throws a Refusal where the API server does not say that it holds, or what it is of is nobody that is let in. */
  attest(token: string, address: string): Promise<Attested>;
  /** From now on the cluster's pods know that authority. */
  publish(authority: string): void;
  close(): void;
}

/** A JWT, which netmaster's own tokens are not. */
export const isServiceToken = (token: string): boolean =>
  /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) && !/^(?:join|api|session)\./.test(token);

/** Throws an Error with one plain line. */
export function readKubernetes(url: string, folder: string): KubernetesOptions {
  if (!URL.canParse(url) || !/^https:\/\/[^/?#]+$/.test(url))
    throw new Error(`--kubernetes: '${url}' is not a URL like https://10.0.0.1:6443`);
  for (const file of ['token', 'ca.crt', 'namespace'])
    readText(`--kubernetes-dir ${path.join(folder, file)}`, path.join(folder, file));
  return { url, folder };
}

interface Review {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly error?: string;
    readonly audiences?: readonly string[];
    readonly user?: {
      readonly username?: string;
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
  };
}

class Unanswered extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function openKubernetes(
  { url, folder }: KubernetesOptions,
  log: Pick<Logger, 'info' | 'warn'>,
): Kubernetes {
  const { hostname, port } = new URL(url);
  /** kubelet writes another token before that one ends, so all is read as it is needed. */
  const file = (name: string): string => fs.readFileSync(path.join(folder, name), 'utf8').trim();
  const namespace = file('namespace');
  const attempts = openAttempts(PACE);
  let asking = 0;
  let publishing: Turns<void> | undefined;

  async function call<T>(
    method: string,
    where: string,
    body?: object,
    type = 'application/json',
  ): Promise<T> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const request = https.request({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port || 443,
      method,
      path: where,
      ca: file('ca.crt'),
      agent: false,
      signal: AbortSignal.timeout(ANSWER),
      headers: {
        accept: 'application/json',
        authorization: `Bearer ${file('token')}`,
        'user-agent': 'netmaster',
        ...(text === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(text) }),
      },
    });
    request.end(text);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.setEncoding('utf8');
    let answer = '';
    for await (const chunk of response) answer += chunk;
    const status = response.statusCode ?? 0;
    if (status < 200 || status > 299)
      throw new Unanswered(status, `status ${status}: ${answer.slice(0, 200).replace(/\s+/g, ' ')}`);
    return JSON.parse(answer) as T;
  }

  async function review(token: string): Promise<Review> {
    if (asking >= AT_ONCE)
      throw new Refusal(503, 'too many ask at once by tokens of service accounts: again in a second');
    asking++;
    try {
      return await call<Review>('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [AUDIENCE] },
      });
    } catch (error) {
      log.warn(`the API server at ${url} does not say whose a token is: ${(error as Error).message}`);
      throw new Refusal(
        503,
        'the API server of Kubernetes does not say whose the token is: again in a moment',
      );
    } finally {
      asking--;
    }
  }

  async function write(authority: string): Promise<void> {
    const collection = `/api/v1/namespaces/${namespace}/configmaps`;
    const data = { 'ca.crt': authority };
    try {
      await call('PATCH', `${collection}/${AUTHORITY}`, { data }, 'application/merge-patch+json');
    } catch (error) {
      if (!(error instanceof Unanswered) || error.status !== 404) throw error;
      const metadata = { name: AUTHORITY, namespace };
      await call('POST', collection, { apiVersion: 'v1', kind: 'ConfigMap', metadata, data });
    }
  }

  return {
    async attest(token, address) {
      const wait = Math.ceil(attempts.take(address) / 1000);
      if (wait > 0)
        throw new Refusal(429, `too many ask by tokens of service accounts from there: again in ${wait} s`);
      const { status = {} } = await review(token);
      const { authenticated, audiences = [], user = {} } = status;
      if (authenticated !== true || !audiences.includes(AUDIENCE))
        throw new Refusal(
          401,
          `the token is refused by the API server of Kubernetes: it must be a service account's, for audience ${AUDIENCE}`,
        );
      const { username = '', extra = {} } = user;
      const [, of, account = ''] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) ?? [];
      const role = ACCOUNTS[account as keyof typeof ACCOUNTS];
      if (of !== namespace || role === undefined)
        throw new Refusal(
          403,
          `${username} may not join: netplugin and netkube of namespace ${namespace} may`,
        );
      const said = (what: string): string => extra[`authentication.kubernetes.io/${what}`]?.[0] ?? '';
      const pod = said('pod-name');
      const name = role === 'host' ? said('node-name') : pod;
      if (name === '')
        throw new Refusal(
          403,
          `${username}: the token names no ${role === 'host' ? 'node' : 'pod'}: it must be one that kubelet has put into a pod, of Kubernetes 1.30 or later`,
        );
      return { role, name, by: `pod ${namespace}/${pod}` };
    },
    publish(authority) {
      let said = '';
      publishing = inTurn(
        async () => {
          await write(authority);
          if (said !== 'written')
            log.info(`ConfigMap ${namespace}/${AUTHORITY} has the authority that pods are to believe`);
          said = 'written';
        },
        {
          again: (failures) => (failures > 0 ? AGAIN : LOOK),
          failed(error) {
            const { message } = error as Error;
            if (said !== message)
              log.warn(`ConfigMap ${namespace}/${AUTHORITY} is not written; tried again: ${message}`);
            said = message;
          },
        },
      );
      publishing.ask();
    },
    close: () => void publishing?.close(),
  };
}

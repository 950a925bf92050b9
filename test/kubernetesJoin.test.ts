/** Agents and netkube get their certificates by their service accounts, as an API server says whose tokens are. */
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { connect } from '../src/client/client.ts';
import { openIdentity } from '../src/netkube/identity.ts';
import { type Kubernetes, openKubernetes, readKubernetes } from '../src/netmaster/kubernetes.ts';
import { openHostCertificate } from '../src/netplugin/certificate.ts';
import { issuePair, makeAuthority, requestCertificate } from '../src/tls/certificates.ts';
import { holderOf, lifeOf } from '../src/tls/identity.ts';
import { temporaryFolder } from './folder.ts';
import { openSecured } from './secured.ts';

vi.setConfig({ testTimeout: 120_000 });
const SILENT = pino({ level: 'silent' });

/** As TokenReview of a real one answers (1.37); what it says of a token is `tokens`. */
async function apiServer() {
  const authority = await makeAuthority();
  const pair = await issuePair(
    authority,
    { role: 'netmaster', name: 'api', names: ['127.0.0.1'] },
    3_600_000,
  );
  const tokens = new Map<string, object>();
  const asked: { line: string; authorization: string | undefined; body: string }[] = [];
  let maps: Record<string, unknown> = {};
  const server = https.createServer({ key: pair.key, cert: pair.certificate }, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const line = `${request.method} ${request.url}`;
    asked.push({ line, authorization: request.headers.authorization, body });
    const say = (status: number, answer: object): void =>
      void response.writeHead(status).end(JSON.stringify(answer));
    const sent = JSON.parse(body) as { spec: { token: string; audiences: string[] }; data: object };
    if (line === 'POST /apis/authentication.k8s.io/v1/tokenreviews') {
      const user = tokens.get(sent.spec.token);
      const status =
        user === undefined
          ? { error: 'unknown' }
          : { authenticated: true, audiences: sent.spec.audiences, user };
      return say(201, { status });
    }
    const has = 'contiv-authority' in maps;
    if (line.startsWith('PATCH') && !has) return say(404, { message: 'not found' });
    maps = { 'contiv-authority': sent.data };
    return say(has ? 200 : 201, {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const folder = temporaryFolder();
  fs.writeFileSync(`${folder}/token`, 'netmasters.own.token\n');
  fs.writeFileSync(`${folder}/ca.crt`, authority.certificate);
  fs.writeFileSync(`${folder}/namespace`, 'contiv-system');
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { tokens, asked, published: () => maps, options: readKubernetes(url, folder) };
}

const userOf = (account: string, node: string, pod: string): object => ({
  username: `system:serviceaccount:${account}`,
  extra: {
    'authentication.kubernetes.io/node-name': [node],
    'authentication.kubernetes.io/pod-name': [pod],
  },
});

/** `hostLife`: milliseconds that hosts' certificates hold. */
async function cluster(hostLife?: number) {
  const kubernetes = await apiServer();
  const opened: Kubernetes = openKubernetes(kubernetes.options, SILENT);
  onTestFinished(() => opened.close());
  const secured = await openSecured(() => ({ kubernetes: opened }), hostLife);
  onTestFinished(() => secured.close());
  const folder = temporaryFolder();
  fs.writeFileSync(`${folder}/ca.crt`, secured.authority.certificate);
  const urls = [`https://localhost:${secured.api.port}`];
  const tokenFile = (token: string): string => {
    fs.writeFileSync(`${folder}/token`, token);
    return `${folder}/token`;
  };
  const join = async (token: string, name: string) => {
    const { request } = await requestCertificate(name);
    return secured.ask({ method: 'POST', path: '/api/v1/join' }, { body: { token, name, request } });
  };
  /** An agent's certificate, kept as the agent keeps it. */
  function agent(token: string, host: string) {
    const options = {
      stateDir: `${folder}/${host}`,
      host,
      urls,
      files: { 'tls-ca': `${folder}/ca.crt` },
      account: tokenFile(token),
    };
    const certificate = openHostCertificate(options, SILENT);
    const client = connect({ urls, credentials: certificate.credentials });
    certificate.keep(client);
    onTestFinished(async () => {
      await certificate.close();
      client.close();
    });
    const shown = (): string | undefined => certificate.credentials().certificate;
    return { client, shown, close: certificate.close };
  }
  return { ...kubernetes, opened, secured, urls, folder, tokenFile, join, agent };
}

it('a node gets the certificate of the node that its pod is on, and of no other', async () => {
  const { tokens, asked, join } = await cluster();
  tokens.set('a.b.node1', userOf('contiv-system:netplugin', 'node1', 'netplugin-1'));
  tokens.set('a.b.other', userOf('shop:netplugin', 'node1', 'x'));
  tokens.set('a.b.web', userOf('contiv-system:web', 'node1', 'x'));
  tokens.set('a.b.old', userOf('contiv-system:netplugin', '', ''));
  const { status, text } = await join('a.b.node1', 'node1');
  expect(status, text).toBe(200);
  const { certificate } = JSON.parse(text) as { certificate: string };
  expect(holderOf(new X509Certificate(certificate))).toMatchObject({ role: 'host', name: 'node1' });
  expect(await join('a.b.node1', 'node2')).toMatchObject({
    status: 403,
    text: expect.stringContaining('of node node1'),
  });
  for (const [token, refused, why] of [
    ['a.b.unknown', 401, 'refused by the API server'],
    ['a.b.other', 403, 'may not join'],
    ['a.b.web', 403, 'may not join'],
    ['a.b.old', 403, 'names no node'],
  ] as const)
    expect(await join(token, 'node1')).toMatchObject({ status: refused, text: expect.stringContaining(why) });
  const [first] = asked;
  expect(first?.authorization).toBe('Bearer netmasters.own.token');
  expect(JSON.parse(first?.body ?? '{}').spec).toEqual({ token: 'a.b.node1', audiences: ['contiv'] });
});

it('an agent joins by itself, and anew when it is revoked; its node is replaced by one of the same name', async () => {
  const { tokens, secured, agent, folder } = await cluster();
  tokens.set('a.b.1', userOf('contiv-system:netplugin', 'node1', 'netplugin-1'));
  const operator = secured.clientOf(secured.admin);
  onTestFinished(() => operator.close());
  const first = agent('a.b.1', 'node1');
  await vi.waitUntil(() => first.shown() !== undefined, { timeout: 60_000 });
  expect((await first.client.call('whoami')).body).toMatchObject({ role: 'host', name: 'node1' });
  const before = first.shown();
  await first.close();

  // It is there when the agent starts again, and nobody is asked for another.
  const second = agent('a.b.none', 'node1');
  expect(second.shown()).toBe(before);
  await second.close();

  await operator.call('hostRevoke', { name: 'node1' });
  const third = agent('a.b.1', 'node1');
  await vi.waitUntil(() => third.shown() !== before, { timeout: 60_000 });
  expect((await third.client.call('whoami')).body).toMatchObject({ name: 'node1' });

  // Another machine, with nothing on its disk: the one before is out.
  fs.cpSync(`${folder}/node1`, `${folder}/gone`, { recursive: true });
  await third.close();
  fs.rmSync(`${folder}/node1`, { recursive: true });
  const replaced = agent('a.b.1', 'node1');
  await vi.waitUntil(() => replaced.shown() !== undefined, { timeout: 60_000 });
  expect((await replaced.client.call('whoami')).body).toMatchObject({ name: 'node1' });
  await expect(third.client.call('whoami')).rejects.toThrow('is revoked');
});

it('netkube has a certificate for an hour, of a controller, as long as its service account is there', async () => {
  const { tokens, secured, urls, folder, tokenFile } = await cluster();
  tokens.set('a.b.k', userOf('contiv-system:netkube', 'node1', 'netkube-1'));
  const options = {
    account: tokenFile('a.b.k'),
    credentialFiles: { 'tls-ca': `${folder}/ca.crt` },
    identity: 'netkube-1',
    netmasters: urls,
  };
  const identity = await openIdentity(options, (line) => expect.unreachable(line));
  onTestFinished(() => identity.close());
  const { certificate } = identity.credentials();
  expect(holderOf(new X509Certificate(certificate ?? ''))).toMatchObject({
    role: 'orchestrator',
    name: 'netkube-1',
  });
  const client = secured.clientOf(identity.credentials());
  onTestFinished(() => client.close());
  expect((await client.call('apply', {}, { objects: [{ kind: 'tenant', tenantName: 'blue' }] })).status).toBe(
    200,
  );
  await expect(client.call('tokens')).rejects.toThrow('orchestrator netkube-1 may not ask this');
});

it('netkube has its certificate renewed before it ends, by the token of then, also where that was refused for a while', async () => {
  const { tokens, urls, folder, tokenFile } = await cluster(12_000);
  const known = (token: string): void =>
    void tokens.set(token, userOf('contiv-system:netkube', 'node1', 'netkube-1'));
  known('a.b.first');
  const said: string[] = [];
  const options = {
    account: tokenFile('a.b.first'),
    credentialFiles: { 'tls-ca': `${folder}/ca.crt` },
    identity: 'netkube-1',
    netmasters: urls,
  };
  const identity = await openIdentity(options, (line) => said.push(line));
  onTestFinished(() => identity.close());
  const shown = (): string => identity.credentials().certificate as string;
  const renewed = (before: string): Promise<boolean> =>
    vi.waitUntil(() => shown() !== before, { timeout: 60_000 });
  const client = connect({ urls, credentials: identity.credentials });
  onTestFinished(() => client.close());
  const first = shown();
  await renewed(first);

  // The API server does not know the token any more, and kubelet has written another one only later.
  const second = shown();
  tokens.clear();
  await vi.waitUntil(() => said.length > 0, { timeout: 60_000 });
  expect(said).toEqual([
    expect.stringContaining('what netkube shows to netmaster is not renewed; tried again'),
  ]);
  known('a.b.second');
  tokenFile('a.b.second');
  await renewed(second);

  // The one with which it began has ended before that of now began.
  await vi.waitUntil(() => lifeOf(shown()).from > lifeOf(first).to, { timeout: 60_000 });
  expect((await client.call('whoami')).body).toMatchObject({ role: 'orchestrator', name: 'netkube-1' });
});

it('pods know whom to believe from what netmaster publishes', async () => {
  const { opened, published, secured } = await cluster();
  opened.publish(secured.authority.certificate);
  const wanted = { 'contiv-authority': { 'ca.crt': secured.authority.certificate } };
  await vi.waitUntil(() => JSON.stringify(published()) === JSON.stringify(wanted), { timeout: 60_000 });
});

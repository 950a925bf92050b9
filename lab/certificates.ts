/**
 * Certificates of a lab, made as operators make them: netmaster init, a token for each host, netplugin join. On each host an operator's own are
 * where netctl looks, and what curl is to show there.
 */
import fs from 'node:fs';
import path from 'node:path';
import { requestOf } from '../src/protocol/wire.ts';
import { run } from './shell.ts';
import { hostFolder, type LabPlan, netmasterUrls, onHost, ROOT } from './state.ts';

/** On the host; `curl` run by `bin/lab exec` reads .curlrc there. */
const FOLDER = '/var/lib/contiv/tls';
const folderOf = (lab: string, host: string): string => `${hostFolder(lab, host)}/contiv/tls`;

const SHOWN = { cacert: 'ca.crt', cert: 'admin.crt', key: 'admin.key' };

/** On hosts with a netmaster its own; on all an operator's, for netctl and curl. */
export async function makeCertificates({ name: lab, hosts, netmasters }: LabPlan): Promise<void> {
  const [first, ...others] = hosts.map((host) => host.name) as [string, ...string[]];
  const init = (host: string) => run(...onHost(lab, host, `${ROOT}/bin/netmaster`, 'init'));
  await init(first);
  for (const [i, host] of others.entries()) {
    fs.mkdirSync(folderOf(lab, host), { recursive: true, mode: 0o700 });
    for (const file of [...Object.values(SHOWN), ...(i + 1 < netmasters ? ['ca.key'] : [])])
      fs.copyFileSync(`${folderOf(lab, first)}/${file}`, `${folderOf(lab, host)}/${file}`);
  }
  const flags = Object.entries(SHOWN).map(([flag, file]) => `${flag} = "${FOLDER}/${file}"\n`);
  for (const host of [first, ...others]) fs.writeFileSync(`${folderOf(lab, host)}/.curlrc`, flags.join(''));
  await Promise.all(others.slice(0, netmasters - 1).map(init));
}

async function tokenFor(state: LabPlan, wanted: object): Promise<string> {
  const { method, url } = requestOf('tokenCreate');
  const ask = ['-sf', '-X', method, '-H', 'content-type: application/json', '-d', JSON.stringify(wanted)];
  const where = netmasterUrls(state)[0] + url;
  const told = await run(...onHost(state.name, 'node1', 'curl', ...curlFlags(state), ...ask, where));
  return (JSON.parse(told) as { token: string }).token;
}

/** Where netkube's token is, on node1. */
export const NETKUBE_TOKEN = `${FOLDER}/netkube.token`;
export async function makeNetkubeToken(state: LabPlan): Promise<void> {
  const token = await tokenFor(state, { role: 'orchestrator', name: 'netkube', seconds: 30 * 86_400 });
  const file = `${folderOf(state.name, 'node1')}/${path.basename(NETKUBE_TOKEN)}`;
  fs.writeFileSync(file, `${token}\n`, { mode: 0o600 });
}

/** Fine where it has joined before. */
export async function joinHost(state: LabPlan, host: string): Promise<void> {
  if (fs.existsSync(`${hostFolder(state.name, host)}/contiv/host/host.pem`)) return;
  const urls = netmasterUrls(state);
  const token = await tokenFor(state, { role: 'join', host, seconds: 3600 });
  const join = [`${ROOT}/bin/netplugin`, 'join', urls.join(), token, '--host', host];
  await run(...onHost(state.name, host, ...join));
}

/** What curl shows on a host of the lab. */
export const curlFlags = ({ tls }: Pick<LabPlan, 'tls'>): string[] =>
  tls ? Object.entries(SHOWN).flatMap(([flag, file]) => [`--${flag}`, `${FOLDER}/${file}`]) : [];

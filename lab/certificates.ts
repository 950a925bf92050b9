/** A lab with certificates (`up --tls`), made as operators make them: netmaster init, a token for each host, netplugin join. */
import fs from 'node:fs';
import { run } from './shell.ts';
import { hostFolder, type LabPlan, netmasterUrls, onHost, ROOT } from './state.ts';

/** What is /var/lib/contiv on the host. */
const folderOf = (lab: string, host: string): string => `${hostFolder(lab, host)}/contiv/tls`;

/** On hosts with a netmaster its own; on all an operator's, for netctl. */
export async function makeCertificates({ name: lab, hosts, netmasters }: LabPlan): Promise<void> {
  for (const [i, { name }] of hosts.entries()) {
    const folder = folderOf(lab, name);
    if (i > 0) {
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
      for (const file of ['ca.crt', 'admin.crt', 'admin.key', ...(i < netmasters ? ['ca.key'] : [])])
        fs.copyFileSync(`${folderOf(lab, 'node1')}/${file}`, `${folder}/${file}`);
    }
    if (i < netmasters) await run(...onHost(lab, name, `${ROOT}/bin/netmaster`, 'init'));
  }
}

/** Fine where it has joined before. */
export async function joinHost(state: LabPlan, host: string): Promise<void> {
  if (fs.existsSync(`${hostFolder(state.name, host)}/contiv/host/host.pem`)) return;
  const urls = netmasterUrls(state).join();
  const netctl = [`${ROOT}/bin/netctl`, '--netmaster', urls, 'token', 'create', `--host=${host}`];
  const token = (await run(...onHost(state.name, 'node1', ...netctl))).trim();
  await run(...onHost(state.name, host, `${ROOT}/bin/netplugin`, 'join', urls, token, '--host', host));
}

/** What curl shows on a host of the lab. */
export const curlFlags = ({ tls }: Pick<LabPlan, 'tls'>): string[] => {
  const at = '/var/lib/contiv/tls';
  return tls ? ['--cacert', `${at}/ca.crt`, '--cert', `${at}/admin.crt`, '--key', `${at}/admin.key`] : [];
};

/** How netmaster comes into a fabric: what aciGw says, and the files that it names, which are on this machine and in no store. */
import { createPrivateKey } from 'node:crypto';
import path from 'node:path';
import { readText } from '../../client/textFile.ts';
import { type AciGw, controllersOf } from '../../model/aciGw.ts';
import { type ApicOptions, certificatesOf, type Secret } from './apic.ts';

export const FOLDER = '/etc/contiv/aci';
export const PASSWORD = 'CONTIV_ACI_PASSWORD';

/** A file is missing, or not what it should be: one plain line that names the field of aciGw. */
export class AccessError extends Error {}

export function readAccess(gateway: AciGw, folder: string, env: NodeJS.ProcessEnv): ApicOptions {
  const { caFile } = gateway;
  const authority = caFile ? read('caFile', caFile, folder) : undefined;
  if (authority !== undefined) {
    let count = 0;
    try {
      count = certificatesOf(authority).length;
    } catch {} // none of them counts
    if (count === 0) throw new AccessError(`caFile ${caFile}: there is no certificate in PEM in it`);
  }
  return { controllers: controllersOf(gateway), secret: secretOf(gateway, folder, env), authority };
}

function secretOf(gateway: AciGw, folder: string, env: NodeJS.ProcessEnv): Secret {
  const { userName: user = '', passwordFile, keyFile, certificateName = '' } = gateway;
  if (keyFile) {
    const key = read('keyFile', keyFile, folder);
    try {
      createPrivateKey(key);
    } catch {
      throw new AccessError(`keyFile ${keyFile}: is no private key in PEM`);
    }
    return { user, certificate: certificateName, key };
  }
  if (!passwordFile) {
    const password = env[PASSWORD];
    if (!password)
      throw new AccessError(
        `passwordFile is missing: name a file in ${folder} of each netmaster, or start it with ${PASSWORD} in its environment`,
      );
    return { user, password };
  }
  const password = read('passwordFile', passwordFile, folder).replace(/\r?\n$/, '');
  if (password === '' || password.includes('\n'))
    throw new AccessError(`passwordFile ${passwordFile}: must have the password in its one line`);
  return { user, password };
}

function read(field: string, name: string, folder: string): string {
  const file = path.join(folder, name);
  try {
    return readText(`${field} ${name}: ${file}`, file);
  } catch (error) {
    throw new AccessError((error as Error).message);
  }
}

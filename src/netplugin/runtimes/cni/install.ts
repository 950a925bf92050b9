/**
 * Puts contiv-cni and a configuration that names it where runtimes look: for a node of Kubernetes, whose runtime takes the first
 * configuration of its folder by name and is told by no one else. Where there is none the node is not ready, and where the first one
 * does not parse it has no network at all: so it comes when the agent can serve, whole, and after the executable.
 *
 * A draft beside the file is renamed over it. containerd 1.6 hears of that since the draft's old name was in the folder it watches;
 * a file moved in from another folder it does not notice. The draft's ending is none that runtimes read.
 */
import fs from 'node:fs';
import path from 'node:path';

export const CONFIGURATION_NAME = '05-contiv.conflist';
export const PROGRAM_NAME = 'contiv-cni';

/** Pods go by their workload; `cniVersions` is read by runtimes that choose the newest they know, `cniVersion` by older ones. */
const CONFIGURATION = {
  cniVersion: '1.0.0',
  cniVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  name: 'contiv',
  plugins: [
    {
      type: PROGRAM_NAME,
      capabilities: { portMappings: true, ips: true, mac: true, aliases: true, bandwidth: true },
    },
  ],
};

/** Folders on this host; absent: nothing is put there. */
export interface Places {
  readonly cniBinDir?: string;
  readonly cniConfDir?: string;
}

/** `program`: contiv-cni as it was built. Answers the files that were written; none where all is there as it should be. */
export function install({ cniBinDir, cniConfDir }: Places, program: string): string[] {
  const written: string[] = [];
  const put = (folder: string | undefined, name: string, mode: number, contents: () => Buffer): void => {
    if (folder === undefined) return;
    const file = path.join(folder, name);
    if (replace(file, mode, contents())) written.push(file);
  };
  put(cniBinDir, PROGRAM_NAME, 0o755, () => fs.readFileSync(program));
  put(cniConfDir, CONFIGURATION_NAME, 0o644, () =>
    Buffer.from(`${JSON.stringify(CONFIGURATION, null, 2)}\n`),
  );
  return written;
}

/** The configuration first, so that no runtime looks for what is gone. */
export function uninstall({ cniBinDir, cniConfDir }: Places): void {
  if (cniConfDir !== undefined) fs.rmSync(path.join(cniConfDir, CONFIGURATION_NAME), { force: true });
  if (cniBinDir !== undefined) fs.rmSync(path.join(cniBinDir, PROGRAM_NAME), { force: true });
}

function replace(file: string, mode: number, contents: Buffer): boolean {
  if (isThere(file, mode, contents)) return false;
  const folder = path.dirname(file);
  fs.mkdirSync(folder, { recursive: true });
  const draft = path.join(folder, `.${path.basename(file)}.new`);
  fs.rmSync(draft, { force: true });
  fs.writeFileSync(draft, contents, { mode, flush: true });
  fs.chmodSync(draft, mode); // whatever the umask
  fs.renameSync(draft, file);
  return true;
}

function isThere(file: string, mode: number, contents: Buffer): boolean {
  try {
    return (fs.statSync(file).mode & 0o777) === mode && fs.readFileSync(file).equals(contents);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

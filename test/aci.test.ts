/**
 * A netmaster and netctl as the processes that they are, against simulated controllers of an ACI fabric, read back by clients that nobody here
 * wrote (apic/judge.sh): after each step they find what was declared, and nothing else.
 */
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { expect, it, onTestFinished, vi } from 'vitest';
import { openApics } from './apic/apic.ts';
import { netctl } from './cluster.ts';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';

const JUDGE = path.join(import.meta.dirname, 'apic/judge.sh');
const PATIENT = { timeout: 60_000, interval: 300 };
const MINUTES = 300_000;
const PATHS = ['topology/pod-1/paths-101/pathep-[eth1/14]', 'topology/pod-1/paths-102/pathep-[eth1/14]'];

async function judge(args: readonly string[], input = ''): Promise<string> {
  const running = promisify(execFile)(JUDGE, args, { maxBuffer: 64 << 20 });
  running.child.stdin?.end(input);
  return (await running).stdout;
}

/** What a client of others is told of a tenant's groups, as long as the test runs. */
function watch(...args: string[]): { readonly lines: readonly string[]; end(): void } {
  const lines: string[] = [];
  const running = spawn(JUDGE, ['watch', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface(running.stdout).on('line', (line) => lines.push(line));
  const end = (): void => void running.kill('SIGKILL');
  onTestFinished(end);
  return { lines, end };
}

it(
  'what is declared is what acitoolkit reads: after create, change, loss of a controller and removal',
  async () => {
    const apics = await openApics(2);
    onTestFinished(apics.close);
    const folder = temporaryFolder();
    fs.writeFileSync(path.join(folder, 'apic'), 'secret\n', { mode: 0o600 });
    const netmaster = await netmasterOn(`sqlite:${path.join(folder, 'netmaster.db')}`);
    const start = () => netmaster.start('--aci-dir', folder);
    await start();
    const run = async (line: string): Promise<string> => {
      const { status, out, err } = await netctl(netmaster.url, line.split(' '));
      expect({ line, status, err: status === 0 ? '' : err }).toEqual({ line, status: 0, err: '' });
      return out;
    };
    const controllers = apics.controllers.map(({ url }) => url);
    const read = async (url = controllers[0] as string): Promise<unknown> =>
      JSON.parse(await judge(['read', url, 'contiv', 'secret', 'blue']));
    const reads = (wanted: unknown, url?: string) =>
      vi.waitFor(async () => expect(await read(url)).toEqual(wanted), PATIENT);

    // The packages are got before anything is waited for.
    expect(await read()).toBeNull();
    const told = watch(controllers[0] as string, 'contiv', 'secret', 'blue');
    const isTold = (...lines: string[]) =>
      vi.waitFor(() => expect(told.lines).toEqual(expect.arrayContaining(lines)), PATIENT);
    await isTold('subscribed');
    for (const line of [
      'tenant create blue',
      'net create -t blue front -e vlan -p 101 -s 10.0.1.0/24 -g 10.0.1.254 -s6 fd00:1::/64 -g6 fd00:1::1',
      'net create -t blue back -e vlan -p 102 -s 10.0.2.0/24',
      'policy create -t blue db',
      'group create -t blue front web',
      'group create -t blue back db -policy=db',
      'policy rule-add -t blue db 1 -direction=in -from-group=web -protocol=tcp -port=5432 -action=allow',
      'policy rule-add -t blue db 2 -direction=in -protocol=icmp -action=allow',
      'external-contracts create -t blue -c -a uni/tn-common/brc-default -a uni/tn-blue/cif-logs wan',
      'group update -t blue web -external-contract=wan',
      'app-profile create -t blue shop -g web,db',
      `aci-gw set -c ${controllers} -u contiv --password-file apic -d dom1 --vmm-domains VMware/dvs1 -p ${PATHS}`,
      'global set --fabric-mode aci',
    ])
      await run(line);
    // Tenant red exports a contract to it.
    await vi.waitFor(() => expect(apics.fabric.get('uni/tn-blue')).toBeDefined(), PATIENT);
    const logs = { vzBrCP: { attributes: { name: 'logs', scope: 'global' } } };
    apics.fabric.post('uni/tn-red', { fvTenant: { attributes: {}, children: [logs] } });
    const exported = { vzRsIf: { attributes: { tDn: 'uni/tn-red/brc-logs' } } };
    apics.fabric.post('uni/tn-blue/cif-logs', { vzCPIf: { attributes: {}, children: [exported] } });
    const paths = (vlan: number): string[] => [101, 102].map((leaf) => `1/${leaf}/1/14 vlan-${vlan} regular`);
    const domains = ['uni/phys-dom1', 'uni/vmmp-VMware/dom-dvs1'];
    const declared = {
      contexts: { 'blue-Vrf': { enforced: true, provided: [], consumed: ['dbExpose'] } },
      bds: {
        front: { context: 'blue-Vrf', subnets: ['10.0.1.254/24', 'fd00:1::1/64'] },
        back: { context: 'blue-Vrf', subnets: [] },
      },
      profiles: {
        shop: {
          web: {
            bd: 'front',
            provided: [],
            consumed: ['dbFrmweb', 'default'],
            imported: ['logs'],
            domains,
            paths: paths(101),
          },
          db: {
            bd: 'back',
            provided: ['dbExpose', 'dbFrmweb'],
            consumed: [],
            imported: [],
            domains,
            paths: paths(102),
          },
        },
      },
      contracts: { dbFrmweb: ['filt-dbFrmweb'], dbExpose: ['filt-dbExpose'] },
      filters: {
        'filt-dbFrmweb': ['ip tcp 5432 5432'],
        'filt-dbExpose': ['ip icmp unspecified unspecified', 'ip icmpv6 unspecified unspecified'],
      },
      taboos: [],
    };
    await reads(declared);
    await vi.waitFor(
      async () =>
        expect(await run('status')).toMatch(
          /^fabric {5}ACI, http:\S+ reached since \S+, \d+ objects, subscribed$/m,
        ),
      PATIENT,
    );

    // What the simulator tells of is what such a client understands; what goes there is there again.
    await isTold('is web', 'is db');
    apics.fabric.remove('uni/tn-blue/ap-shop/epg-web');
    await isTold('deleted web');
    await reads(declared);
    told.end();

    // By the fabric's own dictionary all of it can be said.
    const ours = apics.fabric
      .dns()
      .filter((dn) => apics.fabric.get(dn)?.annotation === 'orchestrator:contiv-contiv');
    expect(ours.length).toBeGreaterThan(25);
    const posted = ours.map((dn) => apics.fabric.posted(dn));
    expect(await judge(['model'], JSON.stringify(posted))).toBe('\n');

    // A change, with a denial that takes something away, as the first controller is lost and netmaster is killed.
    await apics.controllers[0]?.stop();
    await run('policy rule-add -t blue db 3 -direction=in -protocol=icmp -action=deny -priority=5');
    await run('policy rule-rm -t blue db 1');
    await netmaster.kill();
    await start();
    const { dbExpose } = declared.contracts;
    const changed = {
      ...declared,
      profiles: {
        shop: {
          web: { ...declared.profiles.shop.web, consumed: ['default'] },
          db: { ...declared.profiles.shop.db, provided: ['dbExpose'] },
        },
      },
      contracts: { dbExpose },
      filters: {
        'filt-dbExpose': declared.filters['filt-dbExpose'],
        'filt-dbDeny': declared.filters['filt-dbExpose'],
      },
      taboos: ['dbDeny'],
    };
    await reads(changed, controllers[1]);
    await apics.controllers[0]?.start();
    await reads(changed);
    expect(await run('events --kind fabric')).toContain('the ACI fabric is followed');
    // What was written last is there before netmaster has the answer.
    await vi.waitFor(async () => {
      const metrics = await (await fetch(`${netmaster.url}/metrics`)).text();
      expect(metrics).toContain('contiv_netmaster_fabric_reached{fabric="aci"} 1');
    }, PATIENT);
    // The password is in no store, no answer and no event.
    for (const file of fs.readdirSync(folder).filter((name) => name.startsWith('netmaster.db')))
      expect(fs.readFileSync(path.join(folder, file)).includes('secret')).toBe(false);

    // Both of them lost: it is said, with what mends it.
    for (const controller of apics.controllers) await controller.stop();
    await run('group update -t blue web -external-contract=');
    await vi.waitFor(async () => {
      const { status, out } = await netctl(netmaster.url, ['status']);
      expect({ status, out }).toMatchObject({
        status: 2,
        out: expect.stringMatching(/aci: .*refuses the connection/),
      });
      expect(out).toContain('see to the controllers');
    }, PATIENT);
    for (const controller of apics.controllers) await controller.start();

    // With somebody's in it the tenant would stay.
    apics.fabric.remove('uni/tn-blue/cif-logs');
    await run('app-profile rm -t blue shop');
    await reads(null);
  },
  MINUTES,
);

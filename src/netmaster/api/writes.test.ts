/** What a write answers besides, as netctl prints it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, openApi } from '../../../test/apiServer.ts';
import { netctl } from '../../netctl/run.ts';
import { listed } from './writes.ts';

let api: Api;
beforeEach(async () => {
  api = await openApi();
});
afterEach(() => api.close());

interface Ran {
  readonly status: number;
  readonly out: string[];
  readonly err: string[];
}

async function run(line: string): Promise<Ran> {
  const [out, err]: [string[], string[]] = [[], []];
  const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2] ?? '');
  const status = await netctl([`--netmaster=http://127.0.0.1:${api.port}`, ...words], {
    env: {},
    print: (text) => out.push(text),
    printError: (text) => err.push(text),
  });
  return { status, out, err };
}

async function done(...lines: string[]): Promise<void> {
  for (const line of lines) expect(await run(line), line).toMatchObject({ status: 0, err: [] });
}

const post = (path: string, payload: object) =>
  api.server.inject({ method: 'POST', url: `/api/v1/${path}/?wait=0`, payload });

describe('a write that changes an object says what it changed', () => {
  beforeEach(() =>
    done(
      'net create n --subnet=20.1.1.0/24 --gateway=20.1.1.254',
      'policy create prod_web',
      'policy create base',
      'netprofile create -b "10 mbps" -d 46 gold',
      'group create n web -policy=prod_web -n gold',
    ),
  );

  it('a group that is created again without -policy: what was unset is named', async () => {
    expect(await run('group create n web')).toEqual({
      status: 0,
      out: ['Changing group default:web', '  policies: prod_web -> none', '  netProfile: gold -> none'],
      err: [],
    });
    expect(await run('group create n web')).toEqual({
      status: 0,
      out: ['Changing group default:web'],
      err: [],
    });
    expect((await run('group create n web -p base -p prod_web')).out).toEqual([
      'Changing group default:web',
      '  policies: none -> base, prod_web',
    ]);
  });

  it('update leaves what is not named, of a group and of a profile', async () => {
    expect((await run('group update web -p base')).out).toEqual([
      'Changing group default:web',
      '  policies: prod_web -> base',
    ]);
    expect((await run('group update web --networkprofile=')).out).toEqual([
      'Changing group default:web',
      '  netProfile: gold -> none',
    ]);
    expect((await run('group inspect web')).out[0]).toContain('"policies": [\n      "base"');
    expect((await run('netprofile update gold -d 10')).out).toEqual([
      'Changing netprofile default:gold',
      '  DSCP: 46 -> 10',
    ]);
    expect((await run('netprofile create -b 5mbps gold')).out).toEqual([
      'Changing netprofile default:gold',
      '  bandwidth: 10 mbps -> 5mbps',
      '  DSCP: 10 -> none',
    ]);
    expect(await run('group update web')).toMatchObject({
      status: 1,
      err: [expect.stringContaining('nothing to update: give one of --ip-pool,')],
    });
    expect(await run('group update nobody -p base')).toMatchObject({
      status: 3,
      err: ['netctl: endpointGroup default:nobody does not exist'],
    });
  });

  it('settings too', async () => {
    expect((await run('global set --vxlan-range 1-5000')).out).toEqual([
      'Updating global',
      '  vxlans: 1-10000 -> 1-5000',
    ]);
  });

  it('in a header of ASCII and bounded length; the body is as it was', async () => {
    expect((await post('networks/default:m', { subnet: '20.2.1.0/24' })).headers).not.toHaveProperty(
      'contiv-changes',
    );
    const changed = await post('endpointGroups/default:web', { networkName: 'n', cfgdTag: 'Ä→😀' });
    expect(changed.statusCode).toBe(200);
    const header = String(changed.headers['contiv-changes']);
    expect(header).toMatch(/^[ -~]+$/);
    expect(JSON.parse(header)).toEqual({
      policies: { before: ['prod_web'] },
      netProfile: { before: 'gold' },
      cfgdTag: { after: 'Ä→😀' },
    });
    expect(changed.json()).toEqual({
      key: 'default:web',
      tenantName: 'default',
      groupName: 'web',
      networkName: 'n',
      cfgdTag: 'Ä→😀',
      'link-sets': {},
      links: expect.anything(),
    });
    const policies = Array.from({ length: 64 }, (_, i) => `policy-${i}-${'x'.repeat(53)}`);
    for (const name of policies) expect((await post(`policys/default:${name}`, {})).statusCode).toBe(200);
    const many = await post('endpointGroups/default:web', { networkName: 'n', policies });
    expect(JSON.parse(String(many.headers['contiv-changes']))).toEqual({ policies: {}, cfgdTag: {} });
  });
});

it('a rule without -action says that it allows', async () => {
  await done('policy create p');
  expect((await run('policy rule-add p 1 -l tcp')).out).toEqual([
    'Creating rule default:p:1',
    '  action: allow, as no -action was given',
  ]);
  expect((await run('policy rule-add p 2 -l tcp -action=allow')).out).toEqual(['Creating rule default:p:2']);
});

describe('what nothing acts on is said when it is set, once', () => {
  it.each<[line: string, warning: RegExp]>([
    ['global set --arp-mode flood', /^global: kept only: nothing acts on arpMode flood \(the router/],
    ['global set --private-subnet 172.20.0.0/16', /^global: kept only: nothing acts on pvtSubnet 172\.20/],
    [
      'global set --fabric-mode aci-opflex',
      /^global: kept only: nothing acts on networkInfraType aci-opflex/,
    ],
    [
      'net create v --subnet=20.1.1.0/24 -e vlan',
      /^network default:v: acts on hosts whose netplugin has --uplink/,
    ],
    ['bgp create h --router-ip 10.1.1.1/24 --as 65001', /^Bgp h: no neighbour is given/],
    ['external-contracts create -p -a c ext', /^extContractsGroup default:ext: kept only where /],
    ['aci-gw set -d dom', /^aciGw: kept only: /],
    [
      'net create h --subnet=20.1.1.5/24',
      /^network default:h: subnet 20\.1\.1\.5\/24 has bits behind its prefix length, which do not count: it is 20\.1\.1\.0\/24$/,
    ],
    [
      'net create h --subnet=20.1.1.0/24 --subnetv6=fd00:1::7/64',
      /: ipv6Subnet fd00:1::7\/64 .* fd00:1::\/64$/,
    ],
  ])('%s', async (line, warning) => {
    const { status, err } = await run(line);
    expect({ status, err }).toEqual({ status: 0, err: [expect.stringMatching(/^netctl: warning: /)] });
    expect((err[0] as string).replace('netctl: warning: ', '')).toMatch(warning);
  });

  it('and not again where something else is set; nor of what acts', async () => {
    expect((await run('global set --arp-mode flood')).err).toHaveLength(1);
    await done('global set --vxlan-range 1-5000', 'global set --arp-mode proxy');
    await done('net create n --subnet=20.1.1.10-20.1.1.20/24 --gateway=20.1.1.254');
    const { headers } = await post('tenants/blue', { defaultNetwork: 'n' });
    expect(headers['contiv-warning']).toBe('tenant blue: defaultNetwork n is kept only: nothing acts on it');
  });
});

describe('rm of several names', () => {
  it('tries each; each failure is a line of its own, and the exit status', async () => {
    await done(
      'net create n --subnet=20.1.1.0/24',
      'group create n web',
      'group create n db',
      'policy create p',
    );
    expect(await run('net rm n')).toMatchObject({ status: 3 });
    expect(await run('group rm web nobody db')).toEqual({
      status: 3,
      out: ['Deleting group default:web', 'Deleting group default:db'],
      err: ['netctl: endpointGroup default:nobody does not exist'],
    });
    await done('policy rule-add p 1 -j deny', 'policy rule-add p 2 -j deny', 'policy rule-rm p 1 2');
    expect((await run('policy rule-ls p -q')).out).toEqual([]);
    expect(await run('endpoint rm a b')).toEqual({
      status: 3,
      out: [],
      err: [expect.stringContaining('endpoint a does not'), expect.stringContaining('endpoint b does not')],
    });
    expect(await run('group rm')).toMatchObject({ status: 1 });
    expect(await run('group rm web ""')).toMatchObject({ status: 1 });
  });

  it.each([
    ['tenant', 'tenant create', ''],
    ['policy', 'policy create', ''],
    ['net', 'net create --subnet=20.%.1.0/24', ''],
    ['group', 'group create n', 'net create n --subnet=20.1.1.0/24'],
    ['netprofile', 'netprofile create -b 1mbps', ''],
    ['app-profile', 'app-profile create -g g', 'net create n --subnet=20.1.1.0/24;group create n g'],
    ['service', 'service create -s n -l a=b -p 80:80:TCP', 'net create n --subnet=20.1.1.0/24'],
    ['bgp', 'bgp create --router-ip 10.1.1.%/24 --as 65001', ''],
    ['external-contracts', 'external-contracts create -p -a c', ''],
  ])('of %s', async (command, create, before) => {
    for (const line of before.split(';').filter((l) => l !== ''))
      expect(await run(line)).toMatchObject({ status: 0 });
    for (const [i, name] of ['a1', 'b1'].entries())
      expect(await run(`${create.replace('%', String(i + 1))} ${name}`)).toMatchObject({ status: 0 });
    const { status, out } = await run(`${command} rm a1 none b1`);
    expect({ status, removed: out.length }).toEqual({ status: 3, removed: 2 });
  });
});

it('hosts of a large cluster are named as far as a header goes, and the others counted', () => {
  const names = Array.from({ length: 700 }, (_, i) => `ip-10-20-30-${i}.somewhere.example`);
  expect(listed(names.slice(0, 2))).toBe(`${names[0]},${names[1]}`);
  expect(listed(names)).toMatch(new RegExp(`^${names[0]},.*,${names[49]},and 650 more$`));
});

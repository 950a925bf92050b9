/** Beside a gateway process of Contiv 1.x, as its interface has it. */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { RULE } from '../../../test/apic/declared.ts';
import { worldOf } from '../../../test/world.ts';
import { GatewayError, tellGateway } from './gateway.ts';

async function openGateway() {
  const asked: [path: string | undefined, body: object][] = [];
  let answer: object = { result: 'success', info: 'LGTM' };
  const server = http.createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    asked.push([request.url, JSON.parse(Buffer.concat(parts).toString())]);
    response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked: () => asked.splice(0),
    answers: (next: object) => {
      answer = next;
    },
  };
}

const cluster = (objects: object = {}) =>
  worldOf({
    network: [
      { tenantName: 'blue', networkName: 'front', subnet: '10.0.1.0/24', gateway: '10.0.1.254', vni: 101 },
      { tenantName: 'blue', networkName: 'back', subnet: '10.0.2.0/24', vni: 102 },
    ],
    endpointGroup: [
      { tenantName: 'blue', groupName: 'web', networkName: 'front', extContractsGrps: ['wan'] },
      { tenantName: 'blue', groupName: 'db', networkName: 'back', policies: ['p'] },
    ],
    rule: [RULE],
    extContractsGroup: [
      {
        tenantName: 'blue',
        contractsGroupName: 'wan',
        contractsType: 'consumed',
        contracts: ['uni/tn-common/brc-default'],
      },
    ],
    appProfile: [{ tenantName: 'blue', appProfileName: 'shop', endpointGroups: ['web', 'db'] }],
    ...objects,
  });

it('it is told of each application profile as 1.x told it, once, and of what goes', async () => {
  const { url, asked } = await openGateway();
  const gateway = { name: 'aciGw', gateway: url, physicalDomain: 'dom1', clusterName: 'east' } as const;
  const tell = (mirror = cluster(), told = {}, isAci = true) => tellGateway({ gateway, isAci, mirror, told });
  const { told, problems } = await tell();
  expect(problems).toEqual([]);
  expect(asked()).toEqual([
    [
      '/createAppProf',
      {
        'aci-gw-api-version': 'v1.2',
        'gw-config': { name: 'aciGw', physicalDomain: 'dom1' },
        tenant: 'blue',
        'app-prof': 'shop',
        epgs: [
          {
            name: 'db',
            'nw-name': 'back',
            'gw-cidr': '/24',
            'vlan-tag': '102',
            'contract-links': [
              { 'link-kind': 'PROVIDE', 'contract-name': 'pFrmweb', 'contract-kind': 'INTERNAL' },
            ],
          },
          {
            name: 'web',
            'nw-name': 'front',
            'gw-cidr': '10.0.1.254/24',
            'vlan-tag': '101',
            'contract-links': [
              { 'link-kind': 'CONSUME', 'contract-name': 'pFrmweb', 'contract-kind': 'INTERNAL' },
              {
                'link-kind': 'CONSUME',
                'contract-dn': 'uni/tn-common/brc-default',
                'contract-kind': 'EXTERNAL',
              },
            ],
          },
        ],
        'contract-defs': [{ name: 'pFrmweb', 'filter-info': [{ protocol: 'tcp', servport: '80' }] }],
      },
    ],
  ]);
  expect((await tell(cluster(), told)).told).toEqual(told);
  expect(asked()).toEqual([]);
  // Where something goes, the profile is made anew: a second time the gateway only adds.
  const less = await tell(cluster({ rule: [] }), told);
  expect(asked().map(([path]) => path)).toEqual(['/deleteAppProf', '/createAppProf']);
  expect((await tell(cluster(), less.told, false)).told).toEqual({});
  expect(asked()).toEqual([['/deleteAppProf', { tenant: 'blue', 'app-prof': 'shop' }]]);
});

it('what it refuses, and what it cannot say, is a problem', async () => {
  const { url, answers } = await openGateway();
  const gateway = { name: 'aciGw', gateway: url } as const;
  answers({ result: 'failed', info: 'No physDom or vmmDom specified' });
  const { told, problems } = await tellGateway({ gateway, isAci: true, mirror: cluster(), told: {} });
  expect(told).toEqual({});
  expect(problems).toMatchObject([
    {
      of: 'appProfile blue:shop',
      problem: `the gateway at ${url} refuses it: failed No physDom or vmmDom specified`,
    },
  ]);
  const rule = { tenantName: 'blue', policyName: 'p', direction: 'in', action: 'allow', protocol: 'tcp' };
  answers({ result: 'success', info: '' });
  const ranges = cluster({ rule: [{ ...rule, ruleId: '1', ports: '80-90' }] });
  expect((await tellGateway({ gateway, isAci: true, mirror: ranges, told: {} })).problems).toMatchObject([
    { problem: expect.stringContaining('the gateway of 1.x knows tcp, udp and icmp, and one port each') },
  ]);
});

it('that it does not answer is said', async () => {
  const gateway = { name: 'aciGw', gateway: 'http://127.0.0.1:9' } as const;
  await expect(tellGateway({ gateway, isAci: true, mirror: cluster(), told: {} })).rejects.toThrow(
    GatewayError,
  );
});

import http from 'node:http';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { type ControlSubject, startControl } from './control.ts';
import { openMetrics } from './metrics.ts';

it('the control socket tells what passes took and wrote, those that verified apart', async () => {
  const dropped = { way: 'out', family: 'IPv4', table: 'ip filter', chain: 'FORWARD', by: 'policy' } as const;
  const health = { pid: 7, program: '', routers: ['contiv-blue'], residentBytes: 4096, cpuSeconds: 1.5 };
  const metrics = openMetrics({
    attached: () => 3,
    revision: () => 42,
    names: () => health,
    dropped: () => [dropped],
    neighbors: () => [{ address: '50.1.1.1', as: '65000', state: 'Established', sent: 2, received: 3 }],
  });
  const report = { repaired: [], lost: [], created: [], awaited: false, complete: true, failed: [] };
  const compiled = { seconds: 0.25, cpuSeconds: 0.125 };
  metrics.passed(compiled, { ...report, writes: 5, reads: 0, seconds: 0.5, cpuSeconds: 0.25 }, false);
  const repaired = ['restored a route'];
  metrics.passed(compiled, { ...report, repaired, writes: 1, reads: 1, seconds: 2, cpuSeconds: 1 }, true);

  const socketPath = path.join(temporaryFolder(), 'agent.sock');
  const control = await startControl(socketPath, { metrics } as unknown as ControlSubject);
  onTestFinished(() => control.close());
  const text = await new Promise<string>((done) => {
    http.get({ socketPath, path: '/metrics' }, async (response) => {
      let body = '';
      for await (const chunk of response.setEncoding('utf8')) body += chunk;
      done(body);
    });
  });
  expect(text.split('\n')).toEqual(
    expect.arrayContaining([
      'contiv_netplugin_nameservers 1',
      'contiv_netplugin_names_resident_memory_bytes 4096',
      'contiv_netplugin_names_cpu_seconds 1.5',
      'contiv_netplugin_compile_seconds_count 2',
      'contiv_netplugin_compile_cpu_seconds_total 0.25',
      'contiv_netplugin_apply_seconds_sum{verify="false"} 0.5',
      'contiv_netplugin_apply_seconds_sum{verify="true"} 2',
      'contiv_netplugin_apply_cpu_seconds_total{verify="true"} 1',
      'contiv_netplugin_kernel_writes_total 6',
      'contiv_netplugin_kernel_reads_total 1',
      'contiv_netplugin_kernel_repairs_total 1',
      'contiv_netplugin_endpoints 3',
      'contiv_netplugin_revision 42',
      'contiv_netplugin_dropped_by_firewall{way="out",family="IPv4",table="ip filter",chain="FORWARD"} 1',
    ]),
  );
});

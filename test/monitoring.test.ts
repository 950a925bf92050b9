/** What is exported is in the docs; alerts and dashboard are held to a real Prometheus that scrapes a real netmaster, and what agents and netkube export. */
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { parse } from 'yaml';
import { openMetrics as netkubeMetrics } from '../src/netkube/metrics.ts';
import { openMetrics as agentMetrics } from '../src/netplugin/metrics.ts';
import { temporaryFolder } from './folder.ts';
import { read } from './guides.ts';
import { startNetmaster } from './netmaster.ts';
import { freePort } from './ports.ts';

const ROOT = path.dirname(import.meta.dirname);
const PROMETHEUS = path.join(ROOT, 'packaging/prometheus');
const PROGRAMS = ['netmaster', 'netplugin', 'netkube'];
const PAGE = read('docs/operate/metrics.md');

interface Alert {
  readonly alert: string;
  readonly expr: string;
}
const ALERTS: Alert[] = parse(fs.readFileSync(path.join(PROMETHEUS, 'alerts.yaml'), 'utf8')).groups.flatMap(
  (group: { rules: Alert[] }) => group.rules,
);
const PANELS: { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[] =
  JSON.parse(fs.readFileSync(path.join(ROOT, 'packaging/grafana/contiv.json'), 'utf8')).panels;

/** Panels that show nothing while no host has a problem. */
const WITHOUT = ['contiv_netmaster_host_problems'];

/** The registries as the programs open them, with something in each metric that has labels. */
function agent(): Promise<string> {
  const metrics = agentMetrics({
    attached: () => 3,
    revision: () => 42,
    names: () => ({ pid: 7, program: '', routers: ['contiv-blue'], residentBytes: 4096, cpuSeconds: 1.5 }),
    dropped: () => [{ way: 'out', family: 'IPv4', table: 'ip filter', chain: 'FORWARD', by: 'policy' }],
    neighbors: () => [{ address: '50.1.1.1', as: '65000', state: 'Established', sent: 2, received: 3 }],
  });
  const report = { repaired: [], lost: [], created: [], awaited: false, complete: true, failed: [] };
  const spent = { seconds: 0.25, cpuSeconds: 0.125 };
  for (const verified of [true, false])
    metrics.passed(spent, { ...report, writes: 5, reads: 0, ...spent }, verified);
  metrics.refused('blue', 'source', 3);
  return metrics.text();
}
function netkube(): Promise<string> {
  const metrics = netkubeMetrics({
    followed: [{ name: 'pods', objects: { size: 3 } }],
    waiting: () => 0,
    refused: () => 0,
    leads: () => true,
  });
  metrics.wrote('workload', 2, 1);
  return metrics.text();
}

async function scrape(url: string): Promise<string> {
  return (await fetch(`${url}/metrics`)).text();
}

/** By name of a metric: its type, and the labels that its samples have. */
function exported(text: string): Map<string, { type: string; labels: Set<string> }> {
  const found = new Map<string, { type: string; labels: Set<string> }>();
  for (const [, name = '', type = ''] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    found.set(name, { type, labels: new Set() });
  for (const [, name = '', labels = ''] of text.matchAll(/^(\w+)\{(.*)\} \S+$/gm)) {
    const metric = found.get(name) ?? found.get(name.replace(/_(bucket|sum|count)$/, ''));
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) if (label !== 'le') metric?.labels.add(label);
  }
  return found;
}

/** The same of the page's tables. */
function documented(): Map<string, { type: string; labels: Set<string> }> {
  const rows = [
    ...PAGE.matchAll(/^\| `(contiv_\w+)` *\| (\w+), ([\w ]+?) *\| ([^|]*?) *\| [^|]*\w[^|]* \|/gm),
  ];
  return new Map(
    rows.flatMap(([, name = '', type = '', , labels = '']) =>
      (name.includes('PROGRAM') ? PROGRAMS : ['']).map(
        (program) =>
          [
            name.replace('PROGRAM', program),
            { type, labels: new Set(labels.split(', ').filter((label) => label !== '')) },
          ] as const,
      ),
    ),
  );
}

const names = (metrics: ReadonlyMap<string, unknown>): string[] => [...metrics.keys()].sort();

it('each metric that is exported is in the docs with its type and labels, and no other', async () => {
  const url = await startNetmaster('memory');
  await scrape(url); // a request that is counted
  const all = exported([await scrape(url), await agent(), await netkube()].join('\n'));
  const said = documented();
  expect(names(said)).toEqual(names(all));
  expect(all.size).toBeGreaterThan(100);
  for (const [name, { type, labels }] of all) {
    expect({ name, type: said.get(name)?.type }).toEqual({ name, type });
    expect({ name, unsaid: [...labels].filter((l) => !said.get(name)?.labels.has(l)) }).toEqual({
      name,
      unsaid: [],
    });
  }
});

it('each alert is in the docs, and the docs name no other', () => {
  const said = new Set([...PAGE.matchAll(/`(Contiv\w+)`/g)].map(([, name]) => name));
  expect([...said].sort()).toEqual(ALERTS.map(({ alert }) => alert).sort());
});

it('each alert has a case in which it fires and one in which it does not, and promtool finds them true', () => {
  const cases: { name: string }[] = parse(
    fs.readFileSync(path.join(PROMETHEUS, 'alerts.test.yaml'), 'utf8'),
  ).tests;
  expect(cases.map(({ name }) => name)).toEqual(
    ALERTS.flatMap(({ alert }) => [`${alert} fires`, `${alert} does not`]),
  );
  const promtool = (...words: string[]): string =>
    execFileSync('promtool', words, { cwd: PROMETHEUS, encoding: 'utf8', stdio: 'pipe' });
  expect(promtool('check', 'rules', 'alerts.yaml')).toContain(`SUCCESS: ${ALERTS.length} rules found`);
  expect(promtool('check', 'config', 'prometheus.yaml')).toContain('SUCCESS');
  expect(promtool('test', 'rules', 'alerts.test.yaml')).toContain('SUCCESS');
});

/** URL of a page that is what is exported now. */
async function serve(text: () => Promise<string>): Promise<string> {
  const server = http.createServer(async (_, response) => response.end(await text()));
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

it('a Prometheus evaluates every alert and every panel, each panel with series, and finds no alert for what is well', async () => {
  const folder = temporaryFolder();
  const jobs = {
    'contiv-netmaster': await startNetmaster('memory'),
    'contiv-netkube': await serve(netkube),
    node: await serve(agent),
  };
  fs.copyFileSync(path.join(PROMETHEUS, 'alerts.yaml'), path.join(folder, 'alerts.yaml'));
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: ['alerts.yaml'],
    scrape_configs: Object.entries(jobs).map(([job_name, url]) => ({
      job_name,
      static_configs: [{ targets: [url.replace('http://', '')] }],
    })),
  };
  fs.writeFileSync(path.join(folder, 'prometheus.yaml'), JSON.stringify(config)); // JSON is YAML
  const listen = `127.0.0.1:${await freePort()}`;
  const flags = [
    `--config.file=${folder}/prometheus.yaml`,
    `--storage.tsdb.path=${folder}/data`,
    `--web.listen-address=${listen}`,
    '--log.level=error',
  ];
  const child = spawn('prometheus', flags, { stdio: 'ignore' });
  const ended = new Promise((done) => child.on('close', done));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const ask = async <T>(what: string): Promise<{ status: string; error?: string; data: T }> =>
    (await fetch(`http://${listen}/api/v1/${what}`)).json() as Promise<{
      status: string;
      error?: string;
      data: T;
    }>;
  const query = async (expr: string): Promise<{ value: [number, string] }[]> => {
    const answer = await ask<{ result: { value: [number, string] }[] }>(
      `query?query=${encodeURIComponent(expr)}`,
    );
    if (answer.status !== 'success') throw new Error(`${expr}: ${answer.error}`);
    return answer.data.result;
  };
  const scraped = (): Promise<boolean> =>
    query('count_over_time(up[1m]) > 2 and up == 1').then(
      (series) => series.length === 3,
      () => false,
    );
  await vi.waitUntil(scraped, { timeout: 50_000, interval: 200 });
  const without: string[] = [];
  for (const { expr } of PANELS.flatMap(({ targets }) => targets)) {
    const deadline = performance.now() + 30_000; // a rate has two samples by then
    let series = await query(expr);
    while (series.length === 0 && !WITHOUT.includes(expr) && performance.now() < deadline) {
      await new Promise((done) => setTimeout(done, 200));
      series = await query(expr);
    }
    if (series.length === 0) without.push(expr);
  }
  expect(without).toEqual(WITHOUT);
  for (const { expr } of ALERTS) await query(expr);
  const { groups } = (await ask<{ groups: { rules: { name: string; health: string }[] }[] }>('rules')).data;
  const health = groups.flatMap((group) => group.rules);
  expect(health.map((rule) => rule.name)).toEqual(ALERTS.map(({ alert }) => alert));
  expect(health.filter((rule) => rule.health === 'err')).toEqual([]);
  // What is exported above says that another firewall drops packets; all else is well.
  const firing = ALERTS.map(async ({ alert, expr }) => ((await query(expr)).length > 0 ? [alert] : []));
  expect((await Promise.all(firing)).flat()).toEqual(['ContivDroppedByFirewall']);
});

/**
 * A container runtime's calls of CNI plugins, in one of the lab's hosts: executes them as libcni does, environment and configuration in, JSON
 * out. Runs in the host's namespaces.
 *
 *   node cniCalls.ts
 *
 * Answers each line on standard input, a Calls as JSON, with a line of JSON, an Answer.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** The same command for many containers, whose namespaces have their names: so many at a time. */
export interface Calls {
  readonly program: string;
  readonly command: 'ADD' | 'DEL';
  readonly configuration: object;
  readonly containers: readonly string[];
  readonly atOnce: number;
}

/** Milliseconds: of each call, and from the first one's begin to the last one's end. `failure`: the last, '' for none. */
export interface Answer {
  readonly each: readonly number[];
  readonly all: number;
  readonly failure: string;
}

function call({ program, command, configuration }: Calls, container: string): Promise<string> {
  return new Promise((done, fail) => {
    const child = spawn(program, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH ?? '',
        CNI_COMMAND: command,
        CNI_CONTAINERID: container,
        CNI_NETNS: `/run/netns/${container}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: '/usr/lib/cni',
      },
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (part: string) => {
        said += part;
      });
    child.on('error', fail);
    child.on('close', (status) => done(status === 0 ? '' : `${command} ${container}: ${said.trim()}`));
    child.stdin.end(JSON.stringify(configuration));
  });
}

async function carryOut(calls: Calls): Promise<Answer> {
  const rest = calls.containers.values();
  const each: number[] = [];
  let failure = '';
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: calls.atOnce }, async () => {
      for (const container of rest) {
        const began = performance.now();
        const failed = await call(calls, container);
        if (failed !== '') failure = failed;
        each.push(performance.now() - began);
      }
    }),
  );
  return { each, all: performance.now() - begin, failure };
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await carryOut(JSON.parse(line) as Calls))}\n`);

/**
 * The host's ports that lead to an orchestrator's services (node ports), held as published ones are (runtimes/docker/publish.ts): by a
 * bound socket that never listens, so that no other process of the host takes one, and Docker refuses to publish it. What was there before
 * is said once: a container keeps a port that it publishes; a process loses what comes from now on, as packets are translated
 * before they reach it.
 */
import type { Logger } from 'pino';
import { bindPort, closeSocket } from '../../linux/netns.ts';
import { PROTOCOLS } from '../compile/clusterServices.ts';
import type { Follower } from '../follower.ts';
import type { View } from '../intent/view.ts';
import type { DnatEntry, HostState } from '../state.ts';

export interface NodePortsOptions {
  view(): View;
  readonly log: Logger;
  readonly bind?: typeof bindPort;
  readonly close?: typeof closeSocket;
}

interface NodePort {
  readonly protocol: DnatEntry['protocol'];
  readonly port: number;
  readonly service: string;
  /** A container of this host publishes it. */
  readonly published: boolean;
}

const textOf = ({ protocol, port }: Pick<NodePort, 'protocol' | 'port'>): string => `${protocol} ${port}`;

/** Of tenants that have a router here. */
function nodePorts(state: HostState, view: View): Map<string, NodePort> {
  const ports = new Map<string, NodePort>();
  for (const { tenant, namespace } of state.routers) {
    const exit = state.exits.find((e) => e.namespace === namespace);
    const led = new Set(
      (exit?.entrances ?? []).flatMap((e) =>
        e.hostAddress === '' ? textOf({ protocol: e.protocol, port: e.hostPort }) : [],
      ),
    );
    for (const service of view.of(tenant).clusterServices)
      for (const { protocol: number, nodePort: port } of service.ports) {
        const protocol = PROTOCOLS[number];
        if (protocol === undefined || port === undefined) continue;
        const text = textOf({ protocol, port });
        const name = `${service.namespaceName}/${service.serviceName}`;
        ports.set(text, { protocol, port, service: name, published: !led.has(text) });
      }
  }
  return ports;
}

export function followNodePorts({
  view,
  log,
  bind = bindPort,
  close = closeSocket,
}: NodePortsOptions): Follower {
  const held = new Map<string, number>();
  /** Of which it was said that they are somebody else's. */
  const told = new Set<string>();

  function complain(text: string, { service }: NodePort, why: string): void {
    if (told.has(text)) return;
    told.add(text);
    log.warn({ service, port: text }, why);
  }

  function hold(text: string, nodePort: NodePort): void {
    if (nodePort.published) {
      complain(text, nodePort, 'node port: a container of this host publishes it, and keeps it');
      return;
    }
    if (held.has(text)) return;
    try {
      held.set(text, bind(nodePort.protocol, '::', nodePort.port, { both: true }));
      told.delete(text);
    } catch {
      complain(
        text,
        nodePort,
        'node port: another process of this host has it too, and gets nothing new by it',
      );
    }
  }

  return {
    name: 'node ports',
    awaited: 'never',
    changed(news) {
      if (news.type !== 'kernel') return false;
      const wanted = nodePorts(news.state, view());
      for (const [text, fd] of held)
        if (wanted.get(text)?.published !== false) {
          close(fd);
          held.delete(text);
        }
      for (const text of told) if (!wanted.has(text)) told.delete(text);
      for (const [text, nodePort] of wanted) hold(text, nodePort);
      return false;
    },
    settled: () => Promise.resolve(),
    close() {
      for (const fd of held.values()) close(fd);
      held.clear();
    },
  };
}

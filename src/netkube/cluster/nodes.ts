/**
 * Nodes' condition NetworkUnavailable: false while the node's agent lives, true once it has been dead for a while. Kubernetes keeps
 * pods off a node by a taint that follows from it.
 */
import { type KubernetesApi, KubernetesError } from './api.ts';
import type { Condition, Node } from './objects.ts';
import { now } from './time.ts';

/** Milliseconds for which a host may be unknown to netmaster, as when netmaster starts, until its node is said to be without network. */
const PATIENCE = 30_000;

export interface NodeConditions {
  /** The node, or whether its agent lives, may be another. */
  look(name: string): void;
  close(): void;
}

export interface NodeConditionsOptions {
  readonly api: KubernetesApi;
  node(name: string): Node | undefined;
  /** Whether its agent lives; undefined: not known. */
  lives(name: string): boolean | undefined;
  leads(): boolean;
  failed(error: Error): void;
}

export function conditionOf(lives: boolean): Condition {
  return lives
    ? {
        type: 'NetworkUnavailable',
        status: 'False',
        reason: 'NetpluginLives',
        message: 'netplugin of this node follows netmaster',
      }
    : {
        type: 'NetworkUnavailable',
        status: 'True',
        reason: 'NetpluginSilent',
        message: 'netmaster has not heard of netplugin of this node',
      };
}

export function keepNodeConditions({
  api,
  node,
  lives,
  leads,
  failed,
}: NodeConditionsOptions): NodeConditions {
  const waiting = new Map<string, NodeJS.Timeout>();

  async function write(name: string, live: boolean): Promise<void> {
    const condition = conditionOf(live);
    const before = node(name)?.status?.conditions?.find(({ type }) => type === condition.type);
    if (before?.status === condition.status && before.reason === condition.reason) return;
    const time = now();
    await api.patch(`/api/v1/nodes/${name}/status`, 'strategic', {
      status: { conditions: [{ ...condition, lastHeartbeatTime: time, lastTransitionTime: time }] },
    });
  }

  function say(name: string): void {
    const live = lives(name);
    if (live === undefined || !leads() || node(name) === undefined) return;
    write(name, live).catch((error) => {
      if (error instanceof KubernetesError && error.status === 404) return; // gone meanwhile
      failed(error as Error);
      later(name);
    });
  }

  function later(name: string): void {
    if (waiting.has(name)) return;
    const timer = setTimeout(() => {
      waiting.delete(name);
      say(name);
    }, PATIENCE);
    timer.unref();
    waiting.set(name, timer);
  }

  return {
    look(name) {
      if (lives(name) === true) say(name);
      else later(name);
    },
    close() {
      for (const timer of waiting.values()) clearTimeout(timer);
    },
  };
}

/**
 * What only Docker's API tells: which container an endpoint belongs to, its names, aliases, labels and
 * health; and, after dockerd or this agent was away, which endpoints are gone.
 *
 *   event network connect  -> container and name (before its first process runs); of one that runs already, all of it
 *   event start, rename... -> all of it, from inspect; stopped.ts is told the name
 *   event of Swarm's: a service, node or network -> swarm.ts, which looks anew
 *   event kill             -> of a Swarm's task: it answers to names no more, while it ends
 *   event network destroy  -> networks.ts, which offers ours anew
 *   event destroy          -> stopped.ts, which forgets what the container had
 *   event network disconnect -> comparison, where the endpoint is still attached: the driver was away when it ended
 *   (re)connected, and every CONTAINERS_INTERVAL -> comparison: everything
 *   a call of Docker's was refused -> comparison: Docker may keep something of it (remains.ts)
 *
 * Docker starts a container with a restart policy once when dockerd starts, or when its process ends, and not again where this
 * agent or netmaster was away just then: such containers are started when both are there.
 */
import type { Logger } from 'pino';
import type { Endpoint } from '../../../model/endpoint.ts';
import { inTurn } from '../../../turns.ts';
import { GAVE_UP, REPEATED, TASK_LABEL } from '../../constants.ts';
import { CONTAINERS_INTERVAL, RETRY_DELAY } from '../../intervals.ts';
import type { Description, Endpoints } from '../runtime.ts';
import type { ContainerInspectInfo, Docker } from './engine.ts';
import { DRIVER, type Offer } from './networks.ts';
import type { Remains } from './remains.ts';
import type { StoppedContainers } from './stopped.ts';
import { SWARM_DRIVER } from './swarm.ts';

/** Milliseconds after a refusal until Docker shows what it did to the container. */
const REFUSAL_SHOWS = 3000;

/** As Docker tells it. */
export interface Event {
  Type?: string;
  Action?: string;
  /** `swarm`: of all nodes; managers are told. */
  scope?: string;
  Actor?: { ID?: string; Attributes?: Record<string, string> };
}

/** Events of containers after which its endpoints are described anew. */
const DESCRIBING = /^(start|rename|pause|unpause|update|die|health_status)/;

/** As Docker's events have it: SIGTERM and SIGKILL. What else images name to be stopped by is told when it has ended. */
const ENDING = new Set(['15', '9']);

/** What an event asks for, by ids of Docker's. */
export type Reaction =
  /** Whose containers are about to start. */
  | { readonly do: 'describe network'; readonly network: string }
  | { readonly do: 'describe'; readonly container: string }
  /** A task of Swarm's that is being ended: nobody is led to it any more. */
  | { readonly do: 'end'; readonly container: string }
  | { readonly do: 'forget'; readonly container: string }
  /** Only if it runs: one that is about to start is not listed, and has a start event; one that runs has no further event. */
  | { readonly do: 'describe if it runs'; readonly container: string }
  | { readonly do: 'look at Swarm' }
  | { readonly do: 'compare' }
  | { readonly do: 'offer anew'; readonly network: string; readonly name: string };

/** In their order. `attached`: whether a container has an endpoint here. */
export function reactionsTo(event: Event, attached: (container: string) => boolean): Reaction[] {
  const { Type, Action = '', Actor } = event;
  const { ID, Attributes: { container = '', name = '', signal = '', [TASK_LABEL]: task } = {} } = Actor ?? {};
  if (Type === 'container' && Action === 'destroy') return [{ do: 'forget', container: ID ?? '' }];
  // Its own signal to end, or the last one.
  if (Type === 'container' && Action === 'kill' && task !== undefined && ENDING.has(signal))
    return [{ do: 'end', container: ID ?? '' }];
  if (Type === 'container')
    return ID !== undefined && DESCRIBING.test(Action) ? [{ do: 'describe', container: ID }] : [];
  if (event.scope === 'swarm') return [{ do: 'look at Swarm' }];
  if (Type !== 'network') return [];
  if (Action === 'connect' && ID !== undefined)
    return [
      { do: 'describe network', network: ID },
      ...(container === '' ? [] : [{ do: 'describe if it runs', container } as const]),
    ];
  if (Action === 'disconnect') return attached(container) ? [{ do: 'compare' }] : [];
  if (Action === 'destroy') return [{ do: 'offer anew', network: ID ?? '', name }];
  return [];
}

/** As Swarm has it a task is there when its health check says so for the first time; any other container at once. */
export function statusOf(
  { State, Config }: Pick<ContainerInspectInfo, 'State' | 'Config'>,
  ends: boolean,
): Endpoint['status'] {
  const { Paused, Health } = State as { Paused?: boolean; Health?: { Status?: string } };
  if (Paused || ends) return 'paused';
  if (Health?.Status === 'unhealthy') return 'unhealthy';
  return Health?.Status === 'starting' && Config.Labels?.[TASK_LABEL] !== undefined ? 'created' : 'running';
}

/** In netmaster's refusal of an address, ahead of whose it is. */
const TAKEN = ' is in use by ';

export interface Containers {
  /** A call of Docker's was refused with this line. */
  refused(message: string): void;
  close(): void;
}

export interface ContainersOptions {
  readonly docker: Docker;
  readonly endpoints: Endpoints;
  readonly offer: Pick<Offer, 'removed' | 'renewed'>;
  readonly stopped: Pick<StoppedContainers, 'forget' | 'named'>;
  readonly remains: Remains;
  /** Docker's Swarm has changed. */
  swarmChanged(): void;
  /** The driver's socket: Docker names it where it got no answer. */
  readonly pluginSocket: string;
  readonly log: Logger;
}

export function followContainers(options: ContainersOptions): Containers {
  const { docker, endpoints, offer, stopped, remains, pluginSocket, log } = options;
  let closed = false;
  let events: { destroy(): void } | undefined;
  /** Docker may keep remains of a call, in any container: the next comparison looks at all. */
  let suspicious = false;
  /** When Docker was last refused something that would be granted later. */
  let refusedAt: number | undefined;
  /** Containers of tasks that are being ended. */
  const ending = new Set<string>();

  async function describeContainer(id: string): Promise<void> {
    const container = await docker.getContainer(id).inspect();
    void remains.look(container);
    const status = statusOf(container, ending.has(id));
    const name = container.Name.replace(/^\//, '');
    stopped.named(container.Id, name);
    for (const network of Object.values(container.NetworkSettings.Networks)) {
      const attachment = endpoints.attachments.get(network.EndpointID);
      if (attachment === undefined) continue;
      await endpoints.describe(network.EndpointID, {
        containerID: container.Id,
        containerName: name,
        // Docker adds the short id as an alias of its own.
        aliases: [...new Set<string>(network.Aliases ?? [])].filter((alias) => alias !== name),
        labels: container.Config.Labels ?? {},
        status,
      });
    }
  }

  /** While a container starts, inspecting it blocks; the network's own list does not. */
  async function describeNetwork(id: string): Promise<void> {
    for (const [container, entry] of await members(id)) {
      const attachment = endpoints.attachments.get(entry.EndpointID);
      if (attachment === undefined || container.startsWith('ep-')) continue;
      if (attachment.endpoint.containerID === undefined)
        await endpoints.describe(entry.EndpointID, {
          containerID: container,
          containerName: entry.Name,
        } satisfies Description);
    }
  }

  /** A network's endpoints by container, from before Join on: also those of containers that do not run yet. */
  async function members(
    network: string,
  ): Promise<[container: string, { Name: string; EndpointID: string }][]> {
    const { Containers } = await docker.getNetwork(network).inspect();
    return Object.entries(Containers ?? {});
  }

  /** Removes endpoints that Docker does not know, describes the others. */
  async function reconcile(): Promise<void> {
    // Docker knows an endpoint before it asks us to attach it: what is attached now and not in a later list is gone.
    const attached = [...endpoints.attachments.values()].filter((a) => a.runtime === 'docker');
    const all = suspicious;
    suspicious = false;
    const containers = await docker.listContainers();
    const listed = new Set<string>();
    for (const container of containers) {
      const ours = Object.values(container.NetworkSettings.Networks).map((n) => n.EndpointID);
      for (const id of ours) listed.add(id);
      if (all || ours.some((id) => endpoints.attachments.has(id)))
        await describeContainer(container.Id).catch((error) => {
          if (error.statusCode !== 404) throw error;
        });
    }
    const missing = (): string[] =>
      attached
        .map((a) => a.endpoint.endpointID)
        .filter((id) => !listed.has(id) && endpoints.attachments.has(id));
    if (missing().length === 0) return;
    for (const network of await docker.listNetworks({ filters: { driver: [DRIVER, SWARM_DRIVER] } }))
      for (const [, { EndpointID }] of await members(network.Id)) listed.add(EndpointID);
    for (const id of missing()) {
      log.info({ endpoint: id }, 'Docker does not know the endpoint any more: removing it');
      await endpoints.detach(id);
    }
  }

  const comparisons = inTurn(reconcile, {
    every: CONTAINERS_INTERVAL,
    failed: (error) => log.debug({ err: error }, 'comparison with Docker failed; it is tried again'),
  });

  /**
   * Starts what should run by its restart policy and failed only because nobody answered on our socket, netmaster did not, or an
   * agent was asked what the one before it had been asked: Docker starts nothing a second time that failed to start.
   */
  async function startRefused(): Promise<void> {
    const exited = await docker.listContainers({ all: true, filters: { status: ['exited', 'created'] } });
    for (const { Id: id } of exited) {
      const container = docker.getContainer(id);
      const found = await container.inspect().catch((error) => {
        if (error.statusCode !== 404) throw error;
      });
      if (found === undefined) continue; // removed meanwhile
      const { Name: name, HostConfig, State } = found;
      const policy = HostConfig.RestartPolicy?.Name ?? '';
      const gaveUp = State.Error.includes(GAVE_UP);
      // Its own address, which netmaster has not heard yet that it left: Docker was killed, and what came then was not written.
      const own = State.Error.includes(`${TAKEN}${name.replace(/^\//, '')} on `);
      const ours = gaveUp || own || State.Error.includes(pluginSocket) || State.Error.includes(REPEATED);
      if (!['always', 'unless-stopped'].includes(policy) || !ours) continue;
      // It would wait again, and keep Docker from saying which others start meanwhile (stopped.ts).
      if (gaveUp && !endpoints.live()) {
        refusedAt ??= performance.now();
        continue;
      }
      log.info(
        { container: name },
        'Docker could not start it while netplugin or netmaster was away: starting it',
      );
      await container
        .start()
        .catch((error) => log.warn({ err: error, container: name }, 'the container does not start'));
    }
  }

  const restarts = inTurn(startRefused, {
    every: RETRY_DELAY,
    due() {
      if (refusedAt === undefined || performance.now() < refusedAt + REFUSAL_SHOWS || !endpoints.live())
        return false;
      refusedAt = undefined;
      return true;
    },
    failed(error) {
      log.debug(
        { err: error },
        'containers that Docker could not start are not looked for; it is tried again',
      );
      refusedAt ??= performance.now();
    },
  });

  async function react(reaction: Reaction): Promise<void> {
    switch (reaction.do) {
      case 'describe network':
        return describeNetwork(reaction.network);
      case 'describe':
        return describeContainer(reaction.container);
      case 'describe if it runs': {
        const listed = await docker.listContainers({ filters: { id: [reaction.container] } });
        return listed.length > 0 ? describeContainer(reaction.container) : undefined;
      }
      case 'end':
        ending.add(reaction.container);
        for (const { endpoint } of endpoints.attachments.values())
          if (endpoint.containerID === reaction.container)
            await endpoints.describe(endpoint.endpointID, { status: 'paused' });
        return;
      case 'forget':
        ending.delete(reaction.container);
        return stopped.forget(reaction.container);
      case 'look at Swarm':
        return options.swarmChanged();
      case 'compare':
        return comparisons.ask();
      case 'offer anew':
        return offer.removed(reaction.network, reaction.name);
    }
  }

  async function handle(event: Event): Promise<void> {
    const attached = (container: string): boolean =>
      [...endpoints.attachments.values()].some((a) => a.endpoint.containerID === container);
    for (const reaction of reactionsTo(event, attached)) await react(reaction);
    log.trace({ event: event.Action, attributes: event.Actor?.Attributes }, 'Docker event');
  }

  async function follow(): Promise<void> {
    const stream = await docker.getEvents({ filters: { type: ['container', 'network', 'service', 'node'] } });
    events = stream;
    if (closed) return void stream.destroy();
    // From here on nothing is missed; what happened before is found by comparison.
    offer.renewed();
    void comparisons
      .next()
      .catch(() => {}) // logged above
      .then(restarts.ask);
    let rest = '';
    for await (const chunk of stream) {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.trim() === '') continue;
        // Not awaited: inspecting one container may block while it starts, and others must not wait for it.
        void handle(JSON.parse(line) as Event).catch((error) => {
          if (error.statusCode !== 404) log.warn({ err: error }, 'Docker event not handled');
        });
      }
    }
  }

  const streams = inTurn(follow, {
    again: () => RETRY_DELAY,
    failed(error, first) {
      if (first) log.warn({ err: error }, 'Docker does not answer; waiting for it');
    },
  });
  streams.ask();

  return {
    refused(message) {
      if (message.startsWith(GAVE_UP) || message.includes(REPEATED) || message.includes(TAKEN))
        refusedAt = performance.now();
      if (remains.busy()) return;
      suspicious = true;
      comparisons.ask();
    },
    close() {
      closed = true;
      for (const turns of [streams, comparisons, restarts]) void turns.close();
      events?.destroy();
    },
  };
}

/** Questions to hosts, by the watch that their agents hold here; answers come as requests of their own. */
import { randomUUID } from 'node:crypto';
import type { LiveAnswer, LiveQuestion, WatchMessage } from '../protocol/messages.ts';

export interface Questions {
  /** A host's watch is open here; answers how to end it. */
  attach(host: string, send: (message: WatchMessage) => void): () => void;
  /** `away`: the host has no watch here. `silent`: it did not answer in time (seconds). */
  ask(host: string, question: LiveQuestion, seconds: number): Promise<LiveAnswer | 'away' | 'silent'>;
  /** An answer that nobody waits for any more is ignored. */
  answer(host: string, id: string, answer: LiveAnswer): void;
}

export interface QuestionsOptions {
  /** A host's watch is here; answers how to say that it is not any more. */
  attached?(host: string): () => void;
}

export function openQuestions(options: QuestionsOptions = {}): Questions {
  const { attached = () => () => {} } = options;
  /** Of several watches of one host the newest counts: the others are connections that died. */
  const watches = new Map<string, (message: WatchMessage) => void>();
  const waiting = new Map<string, (answer: LiveAnswer) => void>();
  return {
    attach(host, send) {
      watches.set(host, send);
      const detached = attached(host);
      return () => {
        detached();
        if (watches.get(host) === send) watches.delete(host);
      };
    },
    ask(host, question, seconds) {
      const send = watches.get(host);
      if (send === undefined) return Promise.resolve('away');
      const id = randomUUID();
      const key = `${host} ${id}`;
      return new Promise((done) => {
        const end = (answer: LiveAnswer | 'silent'): void => {
          clearTimeout(timer);
          waiting.delete(key);
          done(answer);
        };
        const timer = setTimeout(end, seconds * 1000, 'silent');
        waiting.set(key, end);
        send({ type: 'ask', id, question });
      });
    },
    answer(host, id, answer) {
      waiting.get(`${host} ${id}`)?.(answer);
    },
  };
}

/** Of all hosts: those that have no watch here are asked by the netmaster that has it. */
export const elsewhere = (own: Questions, replicas: Pick<Questions, 'ask'>): Questions => ({
  ...own,
  async ask(host, question, seconds) {
    const answer = await own.ask(host, question, seconds);
    return answer === 'away' ? replicas.ask(host, question, seconds) : answer;
  },
});

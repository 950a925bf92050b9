import { describe, expect, it } from 'vitest';
import type { LiveAnswer, LiveQuestion, WatchMessage } from '../protocol/messages.ts';
import { openQuestions } from './questions.ts';

const QUESTION: LiveQuestion = {
  tenant: 'default',
  direction: 'in',
  own: '1.1.1.1',
  peer: '1.1.1.2',
  protocol: 6,
};
const ANSWER: LiveAnswer = { verdict: 'deny', rule: 'default:p:1', changed: [] };

const idOf = (message: WatchMessage | undefined): string => (message?.type === 'ask' ? message.id : '');

describe('a question', () => {
  it('goes to the watch of its host alone, and its answer to who asked', async () => {
    const questions = openQuestions();
    const sent: Record<string, WatchMessage[]> = { node1: [], node2: [] };
    for (const host of ['node1', 'node2']) questions.attach(host, (m) => sent[host]?.push(m));
    const first = questions.ask('node1', QUESTION, 60);
    const second = questions.ask('node1', { ...QUESTION, port: 80 }, 60);
    expect(sent.node1).toMatchObject([
      { type: 'ask', question: QUESTION },
      { type: 'ask', question: { ...QUESTION, port: 80 } },
    ]);
    expect(sent.node2).toEqual([]);
    questions.answer('node1', idOf(sent.node1?.[1]), { ...ANSWER, verdict: 'allow' });
    // An answer of another host is none.
    questions.answer('node2', idOf(sent.node1?.[0]), { ...ANSWER, verdict: 'allow' });
    questions.answer('node1', idOf(sent.node1?.[0]), ANSWER);
    expect([await first, await second]).toEqual([ANSWER, { ...ANSWER, verdict: 'allow' }]);
  });

  it('says that the host is silent, or has no watch here', async () => {
    const questions = openQuestions();
    expect(await questions.ask('node1', QUESTION, 60)).toBe('away');
    const detach = questions.attach('node1', () => {});
    expect(await questions.ask('node1', QUESTION, 0.01)).toBe('silent');
    detach();
    expect(await questions.ask('node1', QUESTION, 60)).toBe('away');
  });

  it('goes to the newest watch of a host, also when an older one ends later', () => {
    const questions = openQuestions();
    const sent: string[] = [];
    const end = questions.attach('node1', () => sent.push('old'));
    questions.attach('node1', () => sent.push('new'));
    end();
    void questions.ask('node1', QUESTION, 0.01);
    expect(sent).toEqual(['new']);
  });
});

import { describe, expect, it } from 'vitest';
import { UsageError } from './command.ts';
import { parseDeclared } from './declared.ts';

const read = (text: string) => parseDeclared(text, 'f').objects;

describe('a file of objects', () => {
  const a = { kind: 'tenant', tenantName: 'a' };
  const b = { kind: 'tenant', tenantName: 'b' };

  it.each([
    ['one object', 'kind: tenant\ntenantName: a', [a]],
    ['documents', '---\nkind: tenant\ntenantName: a\n---\nkind: tenant\ntenantName: b\n', [a, b]],
    ['a list', '- kind: tenant\n  tenantName: a\n- {kind: tenant, tenantName: b}', [a, b]],
    ['an object of objects', 'objects:\n- kind: tenant\n  tenantName: a', [a]],
    ['lists in documents', '- {kind: tenant, tenantName: a}\n---\n- {kind: tenant, tenantName: b}', [a, b]],
    ['JSON', JSON.stringify(a), [a]],
    ['a JSON list', JSON.stringify([a, b], null, 2), [a, b]],
    ['JSON as a request has it', JSON.stringify({ objects: [a, b] }), [a, b]],
    ['nothing', '', []],
    ['comments and empty documents', '# nothing\n---\n---\nkind: tenant\ntenantName: a\n---\n', [a]],
  ])('may be %s', (_form, text, objects) => {
    expect(read(text)).toEqual(objects);
  });

  it('leaves text as it is written, and numbers where the model has numbers', () => {
    expect(
      read('kind: network\nnetworkName: 007\nsubnet: 1.10\npktTag: 12\ncfgdTag: yes\ngateway:\n'),
    ).toEqual([{ kind: 'network', networkName: '007', subnet: '1.10', pktTag: 12, cfgdTag: 'yes' }]);
    expect(read('{"kind": "network", "pktTag": 12}')).toEqual([{ kind: 'network', pktTag: 12 }]);
    expect(read('kind: network\npktTag: 1x')).toEqual([{ kind: 'network', pktTag: '1x' }]);
  });

  it('knows the line of each object', () => {
    const text =
      '# c\nkind: tenant\ntenantName: a\n---\n\n- kind: tenant\n  tenantName: b\n-\n  kind: tenant\n';
    expect(parseDeclared(text, 'f').lines()).toEqual([2, 6, 9]);
    expect(parseDeclared(JSON.stringify({ objects: [a, b] }, null, 2), 'f').lines()).toEqual([3, 7]);
  });

  it.each([
    ['kind: tenant\ntenantName: [a\nb: c', 3],
    ['kind: tenant\n\tx: y', 2],
    ['kind: tenant\nkind: tenant', 2],
    ['kind: tenant\n---\njust text', 3],
    ['- kind: tenant\n- 7', 2],
    ['[\n{"kind": "tenant"},\n 7]', 3],
    ['{"kind": "tenant",\n "tenantName": "a"', 2],
    ['kind: tenant\n---\nkind: *x', 3],
  ])('that is malformed is one line with the number of the line: %j', (text, line) => {
    const error = (() => {
      try {
        return read(text);
      } catch (reason) {
        return reason as Error;
      }
    })();
    expect(error).toBeInstanceOf(UsageError);
    expect((error as Error).message).toMatch(new RegExp(`^f: line ${line}: [^\\n]+$`));
  });
});

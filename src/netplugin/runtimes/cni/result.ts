/** What was given to a container, as a CNI result of the version that was asked for. */
import { addressNumber, isV6, numberAddress } from '../../../model/address.ts';
import type { Endpoint } from '../../../model/endpoint.ts';
import { NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import type { Inside } from '../../state.ts';
import { type Json, VERSIONS, type Version } from './request.ts';

export interface Given {
  readonly endpoint: Pick<Endpoint, 'macAddress'>;
  readonly inside: Inside;
  readonly device: string;
  readonly sandbox: string;
  readonly mtu: number;
}

const from = (version: Version, first: Version): boolean =>
  VERSIONS.indexOf(version) >= VERSIONS.indexOf(first);

/** `before`: the result of plugins that came earlier in a chain, which passes through. */
export function resultOf(version: Version, given: Given, before?: Json): Json {
  return from(version, '0.3.0') ? modern(version, given, before) : early(version, given);
}

function modern(version: Version, given: Given, before: Json = {}): Json {
  const { endpoint, inside, device, sandbox, mtu } = given;
  const interfaces = listOf(before.interfaces);
  const ips = inside.addresses.map((address) => {
    const gateway = gatewayOf(inside, address);
    return {
      ...(from(version, '1.0.0') ? {} : { version: isV6(address) ? '6' : '4' }),
      interface: interfaces.length,
      address,
      ...(gateway === undefined ? {} : { gateway }),
    };
  });
  return {
    cniVersion: version,
    interfaces: [
      ...interfaces,
      { name: device, mac: endpoint.macAddress, sandbox, ...(from(version, '1.1.0') ? { mtu } : {}) },
    ],
    ips: [...listOf(before.ips), ...ips],
    routes: [...listOf(before.routes), ...routesOf(inside)],
    dns: dnsOf(inside, before.dns as Json | undefined),
  };
}

/** 0.1.0 and 0.2.0: one address a family. */
function early(version: Version, { inside }: Given): Json {
  const part = (v6: boolean): Json | undefined => {
    const address = inside.addresses.find((a) => isV6(a) === v6);
    if (address === undefined) return undefined;
    const gateway = gatewayOf(inside, address);
    const routes = routesOf(inside).filter(({ dst }) => isV6(dst) === v6);
    return { ip: address, ...(gateway === undefined ? {} : { gateway }), routes };
  };
  const [ip4, ip6] = [part(false), part(true)];
  return { cniVersion: version, ...(ip4 && { ip4 }), ...(ip6 && { ip6 }), dns: dnsOf(inside, undefined) };
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const gatewayOf = ({ gateways }: Inside, address: string): string | undefined =>
  gateways.find((g) => isV6(g) === isV6(address));

const routesOf = ({ routes }: Inside): { readonly dst: string; readonly gw?: string }[] =>
  routes.map(({ destination, via }) => ({ dst: destination, ...(via === undefined ? {} : { gw: via }) }));

/** The router's nameserver, by the gateway's address where there is one, by IPv4 where that is, unless an earlier plugin has named others. */
function dnsOf(inside: Inside, before: Json | undefined): Json {
  if (listOf(before?.nameservers).length > 0) return before as Json;
  const v6 = inside.addresses.every(isV6);
  const gateway = inside.gateways.find((g) => isV6(g) === v6);
  return { ...before, nameservers: [gateway ?? (v6 ? NAMESERVER6 : NAMESERVER)] };
}

/** Addresses of a result of any version, in canonical text, without their lengths. */
export function addressesOf(result: Json): string[] {
  const texts = [
    ...listOf(result.ips).map((ip) => (ip as Json).address),
    ...[result.ip4, result.ip6].map((ip) => (ip as Json | undefined)?.ip),
  ];
  return texts.flatMap((text) => {
    const address = typeof text === 'string' ? text.split('/')[0] : undefined;
    return address === undefined ? [] : [numberAddress(addressNumber(address), isV6(address) ? 6 : 4)];
  });
}

/**
 * What of etcd's protocol is used here (etcd v3, `etcdserverpb` and `mvccpb`; the same in 3.4 to 3.7): each message with the fields that are
 * read or written. Fields that are not named are left out by protobuf when they come.
 */
import Long from 'long';
import protobuf from 'protobufjs';

// Lease ids have 64 bits. Of itself protobufjs looks for `long` at run time, which it cannot find in a bundle.
protobuf.util.Long = Long;
protobuf.configure();

const MESSAGES = `
syntax = "proto3";

message Header { int64 revision = 3; }
message KeyValue {
  bytes key = 1; int64 create_revision = 2; int64 mod_revision = 3; int64 version = 4; bytes value = 5; int64 lease = 6;
}
message Event { enum Type { PUT = 0; DELETE = 1; } Type type = 1; KeyValue kv = 2; }

message RangeRequest { bytes key = 1; bytes range_end = 2; int64 limit = 3; int64 revision = 4; bool keys_only = 8; }
message RangeResponse { Header header = 1; repeated KeyValue kvs = 2; bool more = 3; }
message PutRequest { bytes key = 1; bytes value = 2; int64 lease = 3; }
message DeleteRequest { bytes key = 1; bytes range_end = 2; }
message Operation {
  oneof request { RangeRequest range = 1; PutRequest put = 2; DeleteRequest delete = 3; }
}
message OperationResponse { oneof response { RangeResponse range = 1; } }
message Compare {
  enum Result { EQUAL = 0; GREATER = 1; LESS = 2; NOT_EQUAL = 3; }
  enum Target { VERSION = 0; CREATE = 1; MOD = 2; VALUE = 3; LEASE = 4; }
  Result result = 1; Target target = 2; bytes key = 3;
  oneof of { int64 version = 4; int64 create_revision = 5; int64 mod_revision = 6; bytes value = 7; int64 lease = 8; }
}
message TxnRequest { repeated Compare compare = 1; repeated Operation success = 2; repeated Operation failure = 3; }
message TxnResponse { Header header = 1; bool succeeded = 2; repeated OperationResponse responses = 3; }

message WatchCreate {
  bytes key = 1; bytes range_end = 2; int64 start_revision = 3; bool progress_notify = 4; bool fragment = 8;
}
message WatchRequest { oneof request { WatchCreate create = 1; } }
message WatchResponse {
  Header header = 1; bool created = 3; bool canceled = 4; int64 compact_revision = 5; string cancel_reason = 6;
  bool fragment = 7; repeated Event events = 11;
}

message LeaseGrantRequest { int64 TTL = 1; int64 ID = 2; }
message LeaseGrantResponse { Header header = 1; int64 ID = 2; int64 TTL = 3; }
message LeaseRequest { int64 ID = 1; }
message LeaseResponse { Header header = 1; int64 ID = 2; int64 TTL = 3; }

message StatusRequest {}
message StatusResponse { Header header = 1; string version = 2; int64 dbSize = 3; repeated string errors = 8; }
message AuthenticateRequest { string name = 1; string password = 2; }
message AuthenticateResponse { string token = 2; }
message CompactRequest { int64 revision = 1; bool physical = 2; }
message Empty {}
`;

/** Numbers of 64 bits come as text. */
export interface KeyValue {
  readonly key: Buffer;
  readonly createRevision: string;
  readonly modRevision: string;
  readonly value: Buffer;
  readonly lease: string;
}
export interface Header {
  readonly header: { readonly revision: string };
}
export interface RangeResponse {
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
}
export interface RangeRequest {
  readonly key: Buffer;
  readonly rangeEnd?: Buffer;
  readonly limit?: number;
  readonly revision?: number;
  readonly keysOnly?: boolean;
}
export type Operation =
  | { readonly range: RangeRequest }
  | { readonly put: { readonly key: Buffer; readonly value: Buffer; readonly lease?: string } }
  | { readonly delete: { readonly key: Buffer; readonly rangeEnd?: Buffer } };
/** A key has this revision; 0: it is not there. */
export interface Compare {
  readonly target: 'MOD';
  readonly key: Buffer;
  readonly modRevision: number;
  readonly result?: 'EQUAL' | 'NOT_EQUAL';
}
export interface TxnRequest {
  readonly compare?: readonly Compare[];
  readonly success?: readonly Operation[];
  readonly failure?: readonly Operation[];
}
export interface TxnResponse extends Header {
  readonly succeeded: boolean;
  readonly responses: readonly { readonly range?: RangeResponse }[];
}
export interface WatchResponse extends Header {
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compactRevision: string;
  readonly cancelReason: string;
  readonly fragment: boolean;
  readonly events: readonly { readonly type: 'PUT' | 'DELETE'; readonly kv: KeyValue }[];
}

interface Calls {
  txn: [TxnRequest, TxnResponse];
  grant: [{ TTL: number; ID: string }, { ID: string; TTL: string }];
  revoke: [{ ID: string }, object];
  status: [object, { version: string; dbSize: string; errors: readonly string[] }];
  authenticate: [{ name: string; password: string }, { token: string }];
  compact: [{ revision: number; physical?: boolean }, object];
  watch: [{ create: object }, WatchResponse];
  renew: [{ ID: string }, { ID: string; TTL: string }];
}
export type CallName = keyof Calls;
export type Request<C extends CallName> = Calls[C][0];
export type Response<C extends CallName> = Calls[C][1];

export interface Method<C extends CallName> {
  readonly path: string;
  serialize(request: Request<C>): Buffer;
  deserialize(bytes: Buffer): Response<C>;
}

const root = protobuf.parse(MESSAGES).root;

function method<C extends CallName>(path: string, request: string, response: string): Method<C> {
  const [sent, answered] = [root.lookupType(request), root.lookupType(response)];
  return {
    path: `/etcdserverpb.${path}`,
    serialize: (value) => Buffer.from(sent.encode(sent.fromObject(value)).finish()),
    deserialize: (bytes) =>
      answered.toObject(answered.decode(bytes), {
        longs: String,
        enums: String,
        defaults: true,
        arrays: true,
      }) as Response<C>,
  };
}

export const METHODS: { readonly [C in CallName]: Method<C> } = {
  txn: method('KV/Txn', 'TxnRequest', 'TxnResponse'),
  compact: method('KV/Compact', 'CompactRequest', 'Empty'),
  watch: method('Watch/Watch', 'WatchRequest', 'WatchResponse'),
  grant: method('Lease/LeaseGrant', 'LeaseGrantRequest', 'LeaseGrantResponse'),
  revoke: method('Lease/LeaseRevoke', 'LeaseRequest', 'Empty'),
  renew: method('Lease/LeaseKeepAlive', 'LeaseRequest', 'LeaseResponse'),
  status: method('Maintenance/Status', 'StatusRequest', 'StatusResponse'),
  authenticate: method('Auth/Authenticate', 'AuthenticateRequest', 'AuthenticateResponse'),
};

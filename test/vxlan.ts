/** A ping inside VXLAN, byte by byte: what a forger would send to a host's port 4789. */
interface End {
  readonly mac: string;
  readonly address: string;
}

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');
const ipBytes = (address: string): Buffer => Buffer.from(address.split('.').map(Number));

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

function withChecksum(bytes: Buffer, at: number): Buffer {
  bytes.writeUInt16BE(checksum(bytes), at);
  return bytes;
}

/** The payload of the outer UDP datagram. */
export function vxlan({ vni, from, to }: { vni: number; from: End; to: End }): Buffer {
  const header = Buffer.from([8, 0, 0, 0, vni >> 16, (vni >> 8) & 255, vni & 255, 0]);
  const ethernet = Buffer.concat([macBytes(to.mac), macBytes(from.mac), Buffer.from([8, 0])]);
  const echo = withChecksum(Buffer.from([8, 0, 0, 0, 0x77, 0x77, 0, 1]), 2);
  const ip = withChecksum(
    Buffer.concat([
      Buffer.from([0x45, 0, 0, 20 + echo.length, 0, 0, 0x40, 0, 64, 1, 0, 0]),
      ipBytes(from.address),
      ipBytes(to.address),
    ]),
    10,
  );
  return Buffer.concat([header, ethernet, ip, echo]);
}

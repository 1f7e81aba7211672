/** One member of an archive. Names are relative to where it is unpacked. */
export type TarEntry =
  | { type: 'file'; name: string; content: Uint8Array; mode: number }
  | { type: 'dir'; name: string; mode: number }
  | { type: 'link'; name: string; target: string };

const block = 512;
const encoder = new TextEncoder();

/** Writes a pax archive (POSIX.1-2001), whose names may be of any length. */
export function writeTar(entries: Iterable<TarEntry>): Uint8Array {
  const parts: Uint8Array[] = [];
  const mtime = Math.floor(Date.now() / 1000);
  for (const entry of entries) {
    const records: Record<string, string> = { path: entry.name };
    if (entry.type === 'link') {
      records.linkpath = entry.target;
    }
    const pax = encoder.encode(Object.entries(records).map(([key, value]) => paxRecord(key, value)).join(''));
    parts.push(header('pax', 'x', 0o644, pax.length, mtime), padded(pax));
    switch (entry.type) {
      case 'file':
        parts.push(header(entry.name, '0', entry.mode, entry.content.length, mtime), padded(entry.content));
        break;
      case 'dir':
        parts.push(header(entry.name, '5', entry.mode, 0, mtime));
        break;
      case 'link':
        parts.push(header(entry.name, '2', 0o777, 0, mtime));
        break;
    }
  }
  parts.push(new Uint8Array(2 * block));
  return Buffer.concat(parts);
}

/** A record counts its own length, the digits of it too. */
function paxRecord(key: string, value: string): string {
  const rest = encoder.encode(` ${key}=${value}\n`).length;
  let length = rest + String(rest).length;
  if (String(length).length !== String(rest).length) {
    length = rest + String(length).length;
  }
  return `${length} ${key}=${value}\n`;
}

function padded(bytes: Uint8Array): Uint8Array {
  const over = bytes.length % block;
  return over === 0 ? bytes : Buffer.concat([bytes, new Uint8Array(block - over)]);
}

function header(name: string, type: string, mode: number, size: number, mtime: number): Uint8Array {
  const h = new Uint8Array(block);
  const put = (at: number, text: string, most: number) => h.set(encoder.encode(text).subarray(0, most), at);
  put(0, name, 100);
  put(100, (mode & 0o7777).toString(8).padStart(7, '0'), 7);
  put(108, '0000000', 7);
  put(116, '0000000', 7);
  put(124, size.toString(8).padStart(11, '0'), 11);
  put(136, mtime.toString(8).padStart(11, '0'), 11);
  put(148, '        ', 8);
  put(156, type, 1);
  put(257, 'ustar', 6);
  put(263, '00', 2);
  let sum = 0;
  for (const byte of h) {
    sum += byte;
  }
  put(148, `${sum.toString(8).padStart(6, '0')}\0 `, 8);
  return h;
}

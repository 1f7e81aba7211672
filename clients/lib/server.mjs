// The servers that clients are driven against: always the built program, over
// the transports it has.
import fs from 'node:fs';
import path from 'node:path';
import { start, until, within } from './host.mjs';

// Tokens of two principals; they guard a loopback server of a few seconds.
export const tokens = { ann: 'a'.repeat(64), bob: 'b'.repeat(64) };

// stdio says how a client starts its own server. Without a root each has a
// private workspace.
export function stdio({ bin, dir, root, args = [] }) {
  const state = path.join(dir, 'state');
  fs.mkdirSync(state, { recursive: true });
  return { kind: 'stdio', command: bin, args: ['serve', '--state-dir', state, ...(root ? ['--root', root] : []), ...args] };
}

// NetworkServer is a server on loopback that can be stopped and started again
// at the same address, as an operator would.
export class NetworkServer {
  constructor({ bin, dir, kind, args = [] }) {
    Object.assign(this, { bin, dir, kind, args, port: 0 });
    fs.mkdirSync(path.join(dir, 'state'), { recursive: true });
    this.tokenFile = path.join(dir, 'tokens');
    fs.writeFileSync(this.tokenFile, Object.entries(tokens).map(([name, t]) => `${name}:${t}\n`).join(''), { mode: 0o600 });
  }

  async start() {
    const args = ['serve', '--transport', this.kind, '--listen', `127.0.0.1:${this.port}`,
      '--token-file', this.tokenFile, '--state-dir', path.join(this.dir, 'state'), ...this.args];
    this.process = start(this.bin, args);
    const address = () => this.process.err.match(/serves \w+ on (?:http:\/\/)?127\.0\.0\.1:(\d+)/);
    await until('the server says where it listens', () => {
      if (this.process.child.exitCode !== null) throw new Error(`the server ended: ${this.process.err}`);
      return address();
    });
    this.port = Number(address()[1]);
    await until('the server is ready', async () => (await fetch(`http://127.0.0.1:${this.port}/readyz`)).ok);
  }

  target(principal = 'ann', name = '') {
    const at = this.kind === 'sse' ? '/sse' : '/mcp';
    return { kind: this.kind, url: `http://127.0.0.1:${this.port}${at}${name && '/' + name}`, token: tokens[principal] };
  }

  async stop() {
    if (!this.process || this.process.child.exitCode !== null) return;
    this.process.child.kill('SIGTERM');
    await within('the server stops', this.process.ended, 20_000);
  }
}

// Bridges between transports, with the TypeScript SDK at their other end.
import { createServer } from 'node:net';
import { start, until, within } from '../lib/host.mjs';
import sdk from './typescript.mjs';

const client = sdk[0];

const remote = {
  name: 'mcp-remote',
  package: 'mcp-remote',
  transports: ['http', 'sse'],
  connect: (target, options) => client.connect({
    kind: 'stdio', command: 'mcp-remote',
    args: [target.url, '--transport', `${target.kind}-only`, '--header', `Authorization: Bearer ${target.token}`],
  }, options),
};

async function freePort() {
  const s = createServer();
  await new Promise(done => s.listen(0, '127.0.0.1', done));
  const { port } = s.address();
  await new Promise(done => s.close(done));
  return port;
}

const gateway = {
  name: 'supergateway',
  package: 'supergateway',
  transports: ['stdio'],
  async connect(target, options) {
    const port = await freePort();
    const quoted = [target.command, ...target.args].map(a => `'${a}'`).join(' ');
    // Its log ends up in a pipe that nobody may forget to read: none is better.
    const p = start('supergateway', ['--stdio', quoted, '--outputTransport', 'streamableHttp', '--stateful', '--port', String(port), '--logLevel', 'none', '--healthEndpoint', '/healthz']);
    await until('supergateway listens', () => fetch(`http://127.0.0.1:${port}/healthz`).then(r => r.ok, () => false), 40_000);
    const c = await client.connect({ kind: 'http', url: `http://127.0.0.1:${port}/mcp`, token: 'unused' }, options);
    return {
      ...c,
      async close() {
        await c.close();
        p.child.kill('SIGTERM');
        await within('supergateway ends', p.ended, 10_000).catch(() => p.child.kill('SIGKILL'));
      },
    };
  },
};

export default [remote, gateway];

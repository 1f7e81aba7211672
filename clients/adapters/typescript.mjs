// The TypeScript SDK in both of its lines, 2.x in each way it negotiates.
import { Client as Client1 } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport as SSE1 } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport as Stdio1 } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as HTTP1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { Client as Client2, SSEClientTransport as SSE2, StreamableHTTPClientTransport as HTTP2 } from '@modelcontextprotocol/client';
import { StdioClientTransport as Stdio2 } from '@modelcontextprotocol/client/stdio';

// shown is a tool's result as all adapters give it.
export function shown(result) {
  const content = result.content ?? [];
  return {
    isError: result.isError === true,
    text: content.filter(c => c.type === 'text').map(c => c.text).join('\n'),
    images: content.filter(c => c.type === 'image').map(c => c.data),
  };
}

export const bearer = target => ({ Authorization: `Bearer ${target.token}` });

function transportOf(target, { Stdio, HTTP, SSE }) {
  if (target.kind === 'stdio') return new Stdio({ command: target.command, args: target.args, stderr: 'ignore' });
  const T = target.kind === 'sse' ? SSE : HTTP;
  return new T(new URL(target.url), { requestInit: { headers: bearer(target) } });
}

function connection(client, call, timeout) {
  return {
    server: client.getServerVersion()?.name,
    list: async () => (await client.listTools()).tools.map(t => t.name),
    call: async (name, args, { signal, onProgress } = {}) =>
      shown(await call({ name, arguments: args }, { signal, timeout: timeout ?? 60_000, onprogress: onProgress })),
    close: () => client.close(),
  };
}

const info = { name: 'clients-harness', version: '1.0.0' };

const sdk1 = {
  name: 'TypeScript SDK 1.x',
  package: '@modelcontextprotocol/sdk',
  transports: ['stdio', 'http', 'sse'],
  async connect(target, { timeout } = {}) {
    const client = new Client1(info);
    await client.connect(transportOf(target, { Stdio: Stdio1, HTTP: HTTP1, SSE: SSE1 }));
    return connection(client, (params, options) => client.callTool(params, undefined, options), timeout);
  },
};

function sdk2(name, mode, transports) {
  return {
    name,
    package: '@modelcontextprotocol/client',
    transports,
    async connect(target, { timeout } = {}) {
      const client = new Client2(info, { versionNegotiation: { mode } });
      await client.connect(transportOf(target, { Stdio: Stdio2, HTTP: HTTP2, SSE: SSE2 }));
      const revision = client.getNegotiatedProtocolVersion();
      // SSE is older than 2026-07-28, and its messages have no room for it.
      const modern = mode !== 'legacy' && target.kind !== 'sse';
      if (modern !== (revision === '2026-07-28')) throw new Error(`protocol ${revision} was negotiated`);
      return connection(client, (params, options) => client.callTool(params, options), timeout);
    },
  };
}

export default [
  sdk1,
  sdk2('TypeScript SDK 2.x, legacy', 'legacy', ['stdio', 'http', 'sse']),
  sdk2('TypeScript SDK 2.x, auto', 'auto', ['stdio', 'http', 'sse']),
  sdk2('TypeScript SDK 2.x, 2026-07-28', { pin: '2026-07-28' }, ['stdio', 'http']),
];

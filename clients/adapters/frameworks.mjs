// Agent frameworks, each with its default settings.
import { MCPServerSSE, MCPServerStdio, MCPServerStreamableHttp, setTracingDisabled } from '@openai/agents';
import { createMCPClient } from '@ai-sdk/mcp';
import { Experimental_StdioMCPTransport } from '@ai-sdk/mcp/mcp-stdio';
import { MultiServerMCPClient } from '@langchain/mcp-adapters';
import { MCPClient } from '@mastra/mcp';
import { bearer, shown } from './typescript.mjs';

setTracingDisabled(true);

const openai = {
  name: '@openai/agents',
  package: '@openai/agents',
  transports: ['stdio', 'http', 'sse'],
  async connect(target, { timeout } = {}) {
    const common = { name: 'sandbox', ...(timeout ? { timeout, clientSessionTimeoutSeconds: timeout / 1000 } : {}) };
    const network = { url: target.url, requestInit: { headers: bearer(target) }, ...common };
    const server = target.kind === 'stdio' ? new MCPServerStdio({ command: target.command, args: target.args, ...common })
      : target.kind === 'sse' ? new MCPServerSSE(network) : new MCPServerStreamableHttp(network);
    await server.connect();
    return {
      list: async () => (await server.listTools()).map(t => t.name),
      call: async (name, args, { signal } = {}) => shown(await server.callToolResult(name, args, null, { signal })),
      close: () => server.close(),
    };
  },
};

const vercel = {
  name: '@ai-sdk/mcp',
  package: '@ai-sdk/mcp',
  transports: ['stdio', 'http', 'sse'],
  async connect(target, { timeout } = {}) {
    const transport = target.kind === 'stdio' ? new Experimental_StdioMCPTransport({ command: target.command, args: target.args })
      : { type: target.kind, url: target.url, headers: bearer(target) };
    const client = await createMCPClient({ transport });
    return {
      server: client.serverInfo.name,
      list: async () => (await client.listTools()).tools.map(t => t.name),
      call: async (name, args, { signal } = {}) =>
        shown(await client.callTool({ name, arguments: args, options: { signal, ...(timeout ? { timeout } : {}) } })),
      close: () => client.close(),
    };
  },
};

let mastras = 0;
const mastra = {
  name: '@mastra/mcp',
  package: '@mastra/mcp',
  transports: ['stdio', 'http'],
  async connect(target, { timeout } = {}) {
    let heard;
    const options = { enableProgressTracking: true, ...(timeout ? { timeout } : {}) };
    const server = target.kind === 'stdio' ? { command: target.command, args: target.args, ...options }
      : { url: new URL(target.url), requestInit: { headers: bearer(target) }, ...options };
    const client = new MCPClient({ id: `harness-${++mastras}`, servers: { sandbox: server } });
    await client.progress.onUpdate('sandbox', p => heard?.(p));
    const tools = await client.listTools();
    return {
      list: async () => Object.keys(tools).map(n => n.replace(/^sandbox_/, '')),
      async call(name, args, { signal, onProgress } = {}) {
        heard = onProgress;
        try {
          const r = await tools[`sandbox_${name}`].execute(args, { abortSignal: signal });
          if (r?.content) return shown(r);
          return { text: typeof r === 'string' ? r : JSON.stringify(r), isError: false, images: [] };
        } catch (e) {
          // A tool's error comes as an exception with our sentence in it.
          const told = `${e.message}\n${e.cause?.message ?? ''}`;
          if (/not_found: /.test(told)) return { text: told, isError: true, images: [] };
          throw e;
        }
      },
      close: () => client.disconnect(),
    };
  },
};

const langchain = {
  name: '@langchain/mcp-adapters',
  package: '@langchain/mcp-adapters',
  transports: ['stdio', 'http', 'sse'],
  async connect(target, { timeout } = {}) {
    let heard;
    const common = timeout ? { defaultToolTimeout: timeout } : {};
    const server = target.kind === 'stdio' ? { transport: 'stdio', command: target.command, args: target.args, ...common }
      : { transport: target.kind, url: target.url, headers: bearer(target), ...common };
    const client = new MultiServerMCPClient({ mcpServers: { sandbox: server }, throwOnLoadError: true, onProgress: p => heard?.(p) });
    const tools = new Map((await client.getTools()).map(t => [t.name, t]));
    return {
      list: async () => [...tools.keys()],
      async call(name, args, { signal, onProgress } = {}) {
        heard = onProgress;
        try {
          const m = await tools.get(name).invoke({ type: 'tool_call', id: 'call', name, args }, { signal, ...(timeout ? { timeout } : {}) });
          const parts = typeof m.content === 'string' ? [{ type: 'text', text: m.content }] : m.content;
          return {
            isError: m.status === 'error',
            text: parts.filter(p => p.type === 'text').map(p => p.text).join('\n'),
            images: parts.filter(p => p.type === 'image_url').map(p => p.image_url.url.replace(/^data:.*?base64,/, '')),
          };
        } catch (e) {
          if (e.name === 'ToolException') return { text: e.message, isError: true, images: [] };
          throw e;
        }
      },
      close: () => client.close(),
    };
  },
};

export default [openai, vercel, mastra, langchain];

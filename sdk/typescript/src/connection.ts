import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport, StreamableHTTPError } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ErrorCode, McpError } from '@modelcontextprotocol/sdk/types.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { ConnectionLost, ServerError } from './errors.ts';
import type { ConfinedSandboxClientOptions } from './options.ts';
import { ProgramTransport } from './transport.ts';

/** How a server is reached: a program of our own for one session, or an address. */
export type Target =
  | { kind: 'program'; command: string; args: string[]; env: Record<string, string> }
  | { kind: 'address'; url: string; token?: string };

/** Longest wait of one call for a command, in ms: the server's --max-yield-ms. */
export const longestYield = { program: 600_000, address: 45_000 } as const;

/** Bytes of an archive or file in one message; base64 makes them a third more. */
export const partBytes = 8 << 20;

const callMs = 120_000;

/** One connection, and what the server calls its sandbox. */
export class Connection {
  readonly target: Target;
  readonly #client: Client;
  readonly #stderr: string[] = [];
  #program: ProgramTransport | undefined;
  #calls = 0;
  #open = true;
  #closing = false;

  private constructor(target: Target, client: Client) {
    this.target = target;
    this.#client = client;
  }

  static async open(target: Target): Promise<Connection> {
    const client = new Client(
      { name: 'mcp-sandbox-agents', version: '0.1.0' },
      { capabilities: { experimental: { 'mcp-sandbox/raw': {} } } },
    );
    const connection = new Connection(target, client);
    let transport: Transport;
    if (target.kind === 'program') {
      const program = new ProgramTransport(target.command, target.args, target.env);
      program.onstderr = (said) => connection.#noteStderr(said);
      connection.#program = program;
      transport = program;
    } else {
      const headers: Record<string, string> = target.token ? { Authorization: `Bearer ${target.token}` } : {};
      transport = new StreamableHTTPClientTransport(new URL(target.url), { requestInit: { headers }, fetch: withoutStream });
    }
    client.onclose = () => {
      connection.#open = false;
    };
    try {
      await client.connect(transport, { timeout: 30_000 });
      connection.#program?.hold(false);
    } catch (error) {
      await client.close().catch(() => {});
      throw new ConnectionLost(connection.#why(`the server did not answer: ${message(error)}`));
    }
    return connection;
  }

  get live(): boolean {
    return this.#open && !this.#closing;
  }

  /** Calls a tool and gives its structured result. Throws ServerError or ConnectionLost. */
  async call<T>(name: string, args: Record<string, unknown>, waitMs = 0): Promise<T> {
    if (!this.live) {
      throw new ConnectionLost(this.#why('the server of this session has ended'));
    }
    let result;
    this.#hold(1);
    try {
      result = await this.#client.callTool({ name, arguments: args }, undefined, { timeout: callMs + waitMs });
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (error instanceof McpError && code !== ErrorCode.ConnectionClosed && code !== ErrorCode.RequestTimeout) {
        throw new ServerError(`internal: ${error.message}`); // answered, and not by the tool
      }
      if (error instanceof StreamableHTTPError && [400, 401, 403, 413].includes(Number(code))) {
        throw new ServerError(`permission_denied: ${error.message}`);
      }
      if (this.target.kind === 'address') {
        // Each call is a request of its own: the next one may get through.
        throw new ConnectionLost(`${name} was not answered: ${message(error)}`);
      }
      throw new ConnectionLost(this.#why(`the server ended during ${name}: ${message(error)}`));
    } finally {
      this.#hold(-1);
    }
    if (result.isError) {
      const parts = result.content as { type: string; text?: string }[];
      throw new ServerError(parts.map((part) => part.text ?? '').join(''));
    }
    return (result.structuredContent ?? {}) as T;
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#client.close().catch(() => {});
  }

  #hold(change: 1 | -1): void {
    this.#calls += change;
    this.#program?.hold(this.#calls > 0);
  }

  #noteStderr(text: string): void {
    this.#stderr.push(text);
    if (this.#stderr.length > 20) {
      this.#stderr.shift();
    }
  }

  /** The reason with the server's last words, which name what was wrong with a setting. */
  #why(text: string): string {
    const said = this.#stderr.join('').trim().split('\n').filter((line) => line.startsWith('mcp-sandbox: ')).at(-1);
    return said ? `${text} (${said})` : text;
  }
}

/**
 * Nothing but answers is awaited from a server, so no stream is opened for other
 * messages, which would keep the program alive.
 */
const withoutStream: typeof fetch = async (input, init) =>
  init?.method === undefined || init.method === 'GET' ? new Response(null, { status: 405 }) : await fetch(input, init);

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const pairs: [keyof ConfinedSandboxClientOptions, string][] = [
  ['network', '--network'],
  ['allowHosts', '--allow-host'],
  ['denyHosts', '--deny-host'],
  ['allowPresets', '--allow-preset'],
  ['read', '--read'],
  ['write', '--write'],
  ['denyRead', '--deny-read'],
  ['protect', '--protect'],
  ['minConfinement', '--min-confinement'],
  ['snapshotStore', '--snapshot-store'],
  ['stateDir', '--state-dir'],
  ['defaultShell', '--shell'],
];

const limitFlags: Record<string, string> = {
  memory: '--limit-memory',
  fileSize: '--limit-file-size',
  workspace: '--limit-workspace',
  tmp: '--limit-tmp',
  cpu: '--limit-cpu',
  procs: '--limit-procs',
  openFiles: '--limit-open-files',
};

/** The options of a client that only the operator of a server with a url can set. */
export const operatorOptions: (keyof ConfinedSandboxClientOptions)[] = [
  ...pairs.map(([name]) => name).filter((name) => name !== 'defaultShell'),
  'denySecrets',
  'limits',
  'args',
  'workspaceBaseDir',
  'binaryPath',
];

/** The command line of a server for one session. */
export function programTarget(options: ConfinedSandboxClientOptions, own: string[]): Target {
  const args = ['serve', '--max-yield-ms', String(longestYield.program)];
  for (const [name, flag] of pairs) {
    const value = options[name];
    for (const one of Array.isArray(value) ? value : value === undefined ? [] : [value]) {
      args.push(flag, String(one));
    }
  }
  if (options.denySecrets) {
    args.push('--deny-secrets');
  }
  for (const [name, value] of Object.entries(options.limits ?? {})) {
    const flag = limitFlags[name];
    if (flag !== undefined && value !== undefined) {
      args.push(flag, String(value));
    }
  }
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    // Another server's settings are not this one's.
    if (value !== undefined && !name.startsWith('MCP_SANDBOX_')) {
      env[name] = value;
    }
  }
  if (options.workspaceBaseDir !== undefined) {
    env.TMPDIR = options.workspaceBaseDir;
  }
  const command = options.binaryPath ?? 'mcp-sandbox';
  return { kind: 'program', command, args: [...args, ...own, ...(options.args ?? [])], env };
}

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfinedSandboxClient, type ConfinedSandboxClientOptions } from '../src/index.ts';

/** A place for one test file: a state directory, and with http a server. */
export class World {
  readonly dir = mkdtempSync(join(tmpdir(), 'agents-test-'));
  readonly transport: 'stdio' | 'http';
  #server: ChildProcess | undefined;
  #address: string | undefined;

  constructor(transport: 'stdio' | 'http') {
    this.transport = transport;
  }

  async client(options: ConfinedSandboxClientOptions = {}): Promise<ConfinedSandboxClient> {
    // A state is sealed with a key of the client's own directory.
    const own: ConfinedSandboxClientOptions = { stateDir: join(this.dir, 'state'), ...options };
    if (this.transport === 'http') {
      if (this.#server === undefined) {
        await this.serve('127.0.0.1:0');
      }
      own.url = `http://${this.#address}/mcp`;
    }
    return new ConfinedSandboxClient(own);
  }

  /** What a client of another process needs. */
  async options(): Promise<{ url?: string }> {
    await this.client();
    return this.#address === undefined ? {} : { url: `http://${this.#address}/mcp` };
  }

  async serve(listen: string): Promise<void> {
    const server = spawn('mcp-sandbox', [
      'serve', '--transport', 'http', '--listen', listen, '--no-auth', '--state-dir', join(this.dir, 'server'),
      '--workspace-alias', '/workspace', '--expose', 'any',
    ], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    this.#server = server;
    this.#address = await new Promise<string>((resolve, reject) => {
      server.stderr!.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        const at = /serves http on (?:http:\/\/)?([^\s/]+)/.exec(said);
        if (at !== null) {
          resolve(at[1]!);
        }
      });
      server.once('exit', () => reject(new Error(`the server ended: ${said}`)));
    });
  }

  /** Kills the server that the newest session has, as an operator or the kernel may. */
  async kill(): Promise<void> {
    if (this.#server !== undefined) {
      this.#server.kill('SIGKILL');
      await once(this.#server, 'exit');
      return;
    }
    const [newest] = serversOf(process.pid).slice(-1);
    process.kill(newest!, 'SIGKILL');
  }

  /** Starts the server again where one was killed; a stdio client does so by itself. */
  async again(): Promise<void> {
    if (this.#server !== undefined) {
      await this.serve(this.#address!);
    }
  }

  async close(): Promise<void> {
    if (this.#server !== undefined && this.#server.exitCode === null) {
      this.#server.kill('SIGTERM');
      await once(this.#server, 'exit');
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** The servers that a process has started, oldest first. */
export function serversOf(parent: number): number[] {
  const out: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) {
      continue;
    }
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(fields[1]) === parent && fields[0] !== 'Z' && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes('--session')) {
        out.push(Number(name));
      }
    } catch {
      // It has ended meanwhile.
    }
  }
  return out.sort((a, b) => a - b);
}

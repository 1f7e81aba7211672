import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { JSONRPCMessageSchema, type JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js';

const endMs = 5_000;

/**
 * A server as a program, a JSON-RPC message a line. Other than the library's transport
 * it takes long lines in the time of their length, and a program that forgot to close a
 * session can end: only calls in flight keep it alive.
 */
export class ProgramTransport implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  onstderr?: (text: string) => void;
  readonly #command: string;
  readonly #args: string[];
  readonly #env: Record<string, string>;
  #child: ChildProcessWithoutNullStreams | undefined;
  #part: Buffer[] = [];

  constructor(command: string, args: string[], env: Record<string, string>) {
    this.#command = command;
    this.#args = args;
    this.#env = env;
  }

  async start(): Promise<void> {
    const child = spawn(this.#command, this.#args, { env: this.#env, stdio: 'pipe' });
    this.#child = child;
    child.stdout.on('data', (chunk: Buffer) => this.#take(chunk));
    child.stderr.on('data', (chunk: Buffer) => this.onstderr?.(chunk.toString('utf8')));
    child.stdin.on('error', (error) => this.onerror?.(error));
    child.once('close', () => {
      this.#child = undefined;
      this.onclose?.();
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    child.on('error', (error) => this.onerror?.(error));
  }

  /** Keeps the event loop alive, or no longer. */
  hold(on: boolean): void {
    const child = this.#child;
    if (child === undefined) {
      return;
    }
    for (const one of [child, child.stdin, child.stdout, child.stderr] as { ref?(): void; unref?(): void }[]) {
      (on ? one.ref : one.unref)?.call(one);
    }
  }

  #take(chunk: Buffer): void {
    for (let at = 0; ; ) {
      const end = chunk.indexOf(0x0a, at);
      if (end < 0) {
        this.#part.push(chunk.subarray(at));
        return;
      }
      const line = Buffer.concat([...this.#part, chunk.subarray(at, end)]).toString('utf8');
      this.#part = [];
      at = end + 1;
      try {
        this.onmessage?.(JSONRPCMessageSchema.parse(JSON.parse(line)));
      } catch (error) {
        this.onerror?.(error as Error);
      }
    }
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const child = this.#child;
    if (child === undefined) {
      throw new Error('the server has ended');
    }
    if (!child.stdin.write(`${JSON.stringify(message)}\n`)) {
      await new Promise<void>((resolve) => {
        child.stdin.once('drain', resolve);
        child.once('close', () => resolve());
      });
    }
  }

  /** Closes the server's input, at which it ends, and waits until it has. */
  async close(): Promise<void> {
    const child = this.#child;
    if (child === undefined) {
      return;
    }
    this.hold(true);
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
    child.stdin.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), endMs);
    await closed;
    clearTimeout(timer);
  }
}

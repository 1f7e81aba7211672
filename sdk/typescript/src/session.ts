import { posix } from 'node:path';
import type { Editor, ToolOutputImage } from '@openai/agents-core';
import {
  cloneManifest,
  Manifest,
  normalizeExposedPort,
  recordExposedPortEndpoint,
  resolveSandboxArchiveLimits,
  SandboxArchiveError,
  SandboxConfigurationError,
  SandboxUnsupportedFeatureError,
  validateSandboxArchiveLimits,
  WorkspacePathPolicy,
  type ExecCommandArgs,
  type ExposedPortEndpoint,
  type ListDirectoryArgs,
  type MaterializeEntryArgs,
  type ReadFileArgs,
  type SandboxArchiveLimits,
  type SandboxDirectoryEntry,
  type SandboxExecResult,
  type SandboxPreStopHook,
  type SandboxSession,
  type ViewImageArgs,
  type WorkspaceArchiveData,
  type WorkspaceArchiveOptions,
  type WriteStdinArgs,
} from '@openai/agents-core/sandbox';
import {
  assertSandboxSessionStateUsable,
  formatExecResponse,
  imageOutputFromBytes,
  MAX_VIEW_IMAGE_BYTES,
  mergeManifestDelta,
  mergeManifestEntryDelta,
  truncateOutput,
  withExclusiveSandboxManifestMutation,
} from '@openai/agents-core/sandbox/internal';
import { UserError } from '@openai/agents-core';
import { Connection, longestYield, partBytes } from './connection.ts';
import { ConfinedSandboxEditor } from './editor.ts';
import { sandboxError, ServerError, type Operation } from './errors.ts';
import { archiveOf, assertManifestSupported, grantsOf } from './manifest.ts';
import type { ConfinedSandboxSessionState } from './options.ts';
import { writeTar, type TarEntry } from './tar.ts';
import { tarOfJSON } from './jsonarchive.ts';

const execYieldMs = 10_000;
const stdinYieldMs = 250;
/** A large workspace takes its time, in ms. */
const archiveMs = 15 * 60_000;
const unlimited = Number.MAX_SAFE_INTEGER;

/** What raw_exec and raw_input answer, see docs/programs.md. */
interface CommandResult {
  output: string;
  stdout: string;
  stderr: string;
  exit_code?: number;
  session_id?: number;
  awaiting_input?: boolean;
  notices?: string[];
}

/** A result of exec, with what the sandbox has to say about it. */
export interface ConfinedExecResult extends SandboxExecResult {
  /** Sentences such as which flag would allow what was refused. */
  notices?: string[];
}

/** How a session gets to its server again, and ends what it has there. */
export interface SessionHost {
  connect(state: ConfinedSandboxSessionState): Promise<Connection>;
  release(state: ConfinedSandboxSessionState): void;
}

/** A session of the SDK whose commands and files are those of a confined sandbox. */
export class ConfinedSandboxSession implements SandboxSession<ConfinedSandboxSessionState> {
  readonly state: ConfinedSandboxSessionState;
  readonly #host: SessionHost;
  readonly #hooks = new Set<SandboxPreStopHook>();
  readonly #running = new Set<number>();
  #hooksRan = false;
  #connection: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  #limits: SandboxArchiveLimits | null | undefined;
  #closed: Promise<void> | undefined;
  #aliased = false;

  constructor(state: ConfinedSandboxSessionState, host: SessionHost, limits?: SandboxArchiveLimits | null) {
    this.state = state;
    this.#host = host;
    this.setArchiveLimits(limits);
  }

  // Life

  /** Connects, again where the server has ended: the workspace is as it was, processes are gone. */
  async start(): Promise<void> {
    await this.#connected();
  }

  async running(): Promise<boolean> {
    if (this.#closed || !this.#connection?.live) {
      return false;
    }
    return await this.#connection.call('session_info', this.#sandbox()).then(
      () => true,
      () => false,
    );
  }

  registerPreStopHook(hook: SandboxPreStopHook): () => void {
    this.#hooks.add(hook);
    this.#hooksRan = false;
    return () => {
      this.#hooks.delete(hook);
    };
  }

  /** Runs every hook once, also when one fails; the first failure is thrown at the end. */
  async runPreStopHooks(): Promise<void> {
    if (this.#hooksRan) {
      return;
    }
    this.#hooksRan = true;
    const failures: unknown[] = [];
    for (const hook of this.#hooks) {
      try {
        await hook();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) {
      throw failures[0];
    }
  }

  /** Ends every process of the session; its files and the session stay. */
  async stop(): Promise<void> {
    if (!this.#connection?.live) {
      return;
    }
    const ids = [...this.#running];
    this.#running.clear();
    await Promise.all(ids.map((id) => this.call('kill_process', { session_id: id }).catch(() => {})));
  }

  async shutdown(): Promise<void> {
    await this.close();
  }

  async delete(): Promise<void> {
    await this.close();
  }

  /** Ends the session for good and removes its workspace. May be called again. */
  async close(): Promise<void> {
    this.#closed ??= this.#end();
    await this.#closed;
  }

  async #end(): Promise<void> {
    try {
      await this.runPreStopHooks();
    } finally {
      await this.#discard();
    }
  }

  async #discard(): Promise<void> {
    const connection = await (this.#connecting ?? this.#host.connect(this.state)).catch(() => undefined);
    if (connection?.live) {
      // What cannot be removed now is removed by the server's next sweep.
      await connection.call('raw_close', this.#sandbox()).catch(() => {});
    }
    await connection?.close();
    this.#connection = undefined;
    this.#host.release(this.state);
  }

  /** Takes over a connection that the client has opened. */
  async adopt(connection: Connection): Promise<void> {
    this.#connection = connection;
    this.#connecting = Promise.resolve(connection);
    const info = await this.call<{ workspace: { path: string; alias?: string } }>('session_info', {});
    this.state.workspaceRootPath = info.workspace.path;
    this.#aliased = info.workspace.alias === this.state.manifest.root;
  }

  async #connected(): Promise<Connection> {
    assertSandboxSessionStateUsable(this.state);
    if (this.#closed) {
      throw new SandboxConfigurationError('The sandbox session is closed; create a new one.');
    }
    if (this.#connection?.live) {
      return this.#connection;
    }
    if (!this.#connecting || this.#connection) {
      this.#connection = undefined;
      this.#running.clear();
      this.#connecting = this.#host.connect(this.state).then(async (connection) => {
        await this.adopt(connection);
        return connection;
      });
    }
    try {
      return await this.#connecting;
    } catch (error) {
      this.#connecting = undefined;
      throw sandboxError(error, 'start');
    }
  }

  #sandbox(): Record<string, unknown> {
    return this.state.sandboxId === undefined ? {} : { sandbox_id: this.state.sandboxId };
  }

  /** Calls a tool of the server in this session. Throws ServerError and ConnectionLost. */
  async call<T = unknown>(tool: string, args: Record<string, unknown>, waitMs = 0): Promise<T> {
    const connection = await this.#connected();
    return await connection.call<T>(tool, { ...this.#sandbox(), ...args }, waitMs);
  }

  async #try<T>(operation: Operation, details: Record<string, unknown>, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw sandboxError(error, operation, details);
    }
  }

  // Paths

  /** A path as the server takes it: relative to the workspace, or absolute in a grant. */
  serverPath(path: string | undefined, forWrite = false): string {
    const { root, extraPathGrants } = this.state.manifest;
    const resolved = new WorkspacePathPolicy({ root, extraPathGrants }).resolve(path, { forWrite });
    return resolved.workspaceRelativePath === undefined ? resolved.path : resolved.workspaceRelativePath || '.';
  }

  /** Where a path is on the machine of the server. */
  resolveSandboxPath(path?: string, options: { forWrite?: boolean } = {}): string {
    return posix.resolve(this.state.workspaceRootPath, this.serverPath(path, options.forWrite));
  }

  /** Who does file operations; the SDK's client has python. */
  get fileIOBackend(): 'server' {
    return 'server';
  }

  #refuseUser(runAs: string | undefined): void {
    if (runAs !== undefined && runAs.trim() !== '') {
      throw new SandboxUnsupportedFeatureError(
        `runAs="${runAs}" is not supported: a confined session runs as one unprivileged identity.`,
        { feature: 'runAs' },
      );
    }
  }

  // Commands

  supportsPty(): boolean {
    return true;
  }

  /** For models: both streams in the order in which they were written. */
  async execCommand(args: ExecCommandArgs): Promise<string> {
    return told(await this.#exec(args, false));
  }

  async exec(args: ExecCommandArgs): Promise<ConfinedExecResult> {
    return await this.#exec(args, args.tty !== true);
  }

  async #exec(args: ExecCommandArgs, separate: boolean): Promise<ConfinedExecResult> {
    this.#refuseUser(args.runAs);
    const began = Date.now();
    const workdir = this.serverPath(args.workdir);
    const yieldMs = args.yieldTimeMs ?? execYieldMs;
    return await this.#try('exec', { cmd: args.cmd }, async () => {
      const first = await this.#command('raw_exec', {
        cmd: this.#commandIn(args.cmd),
        workdir: this.#aliased && workdir === '.' ? this.state.manifest.root : workdir,
        login: args.login ?? true,
        tty: args.tty ?? false,
        keep_stdin: args.tty !== true,
        separate_stderr: separate,
        env: Object.entries(this.state.environment).map(([name, value]) => `${name}=${value}`),
        ...(args.shell === undefined ? {} : { shell: args.shell }),
      }, yieldMs);
      return this.#result(first, began, args.maxOutputTokens);
    });
  }

  async writeStdin(args: WriteStdinArgs): Promise<string> {
    const began = Date.now();
    let chars = args.chars ?? '';
    const session_id = args.sessionId;
    try {
      let result: CommandResult | undefined;
      if (chars.includes('\u0003') && !(await this.#isTerminal(session_id))) {
        // No terminal turns the character into a signal.
        const killed = await this.call<CommandResult>('kill_process', { session_id, signal: 'INT' });
        const stderr = killed.stderr ?? '';
        result = { ...killed, output: killed.output + stderr, stdout: killed.output, stderr };
        chars = chars.replaceAll('\u0003', '');
      }
      if (result?.exit_code === undefined) {
        const next = await this.#command('raw_input', { session_id, chars }, args.yieldTimeMs ?? stdinYieldMs);
        result = result ? joined(result, next) : next;
      } else {
        delete result.session_id;
      }
      return told(this.#result(result, began, args.maxOutputTokens));
    } catch (error) {
      if (error instanceof ServerError && (error.code === 'process_not_found' || error.code === 'stdin_closed')) {
        const what = error.code === 'process_not_found' ? `session not found: ${session_id}` : error.message;
        return formatExecResponse({ output: `write_stdin failed: ${what}`, wallTimeSeconds: 0, exitCode: 1 });
      }
      throw sandboxError(error, 'stdin', { sessionId: session_id });
    }
  }

  async #isTerminal(id: number): Promise<boolean> {
    const list = await this.call<{ processes?: { session_id: number; tty?: boolean }[] }>('list_processes', {});
    return list.processes?.find((process) => process.session_id === id)?.tty === true;
  }

  /** Runs a command call and goes on waiting where the server waits for less at a time. */
  async #command(tool: string, args: Record<string, unknown>, yieldMs: number): Promise<CommandResult> {
    const until = Date.now() + yieldMs;
    const target = (await this.#connected()).target.kind;
    let all: CommandResult | undefined;
    for (let left = yieldMs; ; left = until - Date.now()) {
      const wait = Math.min(Math.max(left, 0), longestYield[target]);
      const next: CommandResult = all?.session_id === undefined
        ? await this.call(tool, { ...args, yield_time_ms: wait }, wait)
        : await this.call('raw_input', { session_id: all.session_id, yield_time_ms: wait }, wait);
      all = all ? joined(all, next) : next;
      if (next.exit_code !== undefined || next.session_id === undefined || next.awaiting_input || until <= Date.now()) {
        break;
      }
    }
    if (all.exit_code === undefined && all.session_id !== undefined) {
      this.#running.add(all.session_id);
    } else if (all.session_id !== undefined) {
      // It left something running, which ends with the session.
      this.#running.add(all.session_id);
      delete all.session_id;
    } else if (typeof args.session_id === 'number') {
      this.#running.delete(args.session_id);
    }
    return all;
  }

  #result(r: CommandResult, began: number, maxOutputTokens: number | undefined): ConfinedExecResult {
    const output = truncateOutput(this.#commandOut(r.output), maxOutputTokens);
    return {
      output: output.text,
      stdout: this.#commandOut(r.stdout),
      stderr: this.#commandOut(r.stderr),
      wallTimeSeconds: (Date.now() - began) / 1000,
      ...(r.exit_code === undefined ? {} : { exitCode: r.exit_code }),
      ...(r.session_id === undefined ? {} : { sessionId: r.session_id }),
      ...(output.originalTokenCount === undefined ? {} : { originalTokenCount: output.originalTokenCount }),
      ...(r.notices?.length ? { notices: r.notices } : {}),
    };
  }

  /** Where commands cannot have the manifest's root as a path, its name in them is replaced. */
  #commandIn(cmd: string): string {
    const { root } = this.state.manifest;
    if (this.#aliased || root === '/' || root === this.state.workspaceRootPath) {
      return cmd;
    }
    const name = root.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const whole = new RegExp(`(^|[\\s"'=<>:;&|(])${name}(?=$|[/\\s"'|&;<>(){}])`, 'g');
    return cmd.replace(whole, (_all, before: string) => `${before}${this.state.workspaceRootPath}`);
  }

  /** Programs that resolve links tell the workspace's own path; the model knows the other. */
  #commandOut(text: string): string {
    const { root } = this.state.manifest;
    return root === '/' ? text : text.replaceAll(this.state.workspaceRootPath, root);
  }

  // Files

  createEditor(runAs?: string): Editor {
    this.#refuseUser(runAs);
    assertSandboxSessionStateUsable(this.state);
    return new ConfinedSandboxEditor(this);
  }

  async viewImage(args: ViewImageArgs): Promise<ToolOutputImage> {
    this.#refuseUser(args.runAs);
    const path = this.serverPath(args.path);
    let bytes: Uint8Array;
    try {
      bytes = (await this.#read(path, MAX_VIEW_IMAGE_BYTES + 1)).bytes;
    } catch (error) {
      if (error instanceof ServerError && error.code === 'not_found') {
        throw new UserError(`Image file not found: ${args.path}`);
      }
      if (error instanceof ServerError && (error.code === 'is_a_directory' || error.code === 'unsupported_file_type')) {
        throw new UserError(`Image path is not a file: ${args.path}`);
      }
      throw sandboxError(error, 'read', { path: args.path });
    }
    return imageOutputFromBytes(args.path, bytes);
  }

  async pathExists(path: string, runAs?: string): Promise<boolean> {
    return (await this.#stat(path, runAs)) !== undefined;
  }

  async directoryExists(path: string, runAs?: string): Promise<boolean> {
    return (await this.#stat(path, runAs)) === 'directory';
  }

  async #stat(path: string, runAs?: string): Promise<string | undefined> {
    this.#refuseUser(runAs);
    const at = this.serverPath(path);
    return await this.#try('read', { path }, async () => {
      const found = await this.call<{ exists: boolean; kind?: string }>('raw_stat', { path: at });
      return found.exists ? (found.kind ?? 'other') : undefined;
    });
  }

  async readFile(args: ReadFileArgs): Promise<Uint8Array> {
    this.#refuseUser(args.runAs);
    const path = this.serverPath(args.path);
    return await this.#try('read', { path: args.path }, async () => (await this.#read(path, args.maxBytes)).bytes);
  }

  /** The whole file, and the version that a later write can insist on. */
  async readVersion(path: string, operation: Operation): Promise<{ bytes: Uint8Array; version: string }> {
    return await this.#try(operation, { path }, () => this.#read(path));
  }

  async #read(path: string, maxBytes?: number): Promise<{ bytes: Uint8Array; version: string }> {
    const most = maxBytes ?? unlimited;
    const parts: Uint8Array[] = [];
    let got = 0;
    let version = '';
    for (let offset = 0; ; ) {
      const limit = Math.min(most - got, partBytes);
      const part = await this.call<{ data: string; version?: string; next_offset?: number }>('raw_read', { path, offset, limit });
      const bytes = Buffer.from(part.data, 'base64');
      parts.push(bytes);
      got += bytes.length;
      version = part.version ?? version;
      if (part.next_offset === undefined || got >= most || bytes.length === 0) {
        return { bytes: new Uint8Array(Buffer.concat(parts)), version };
      }
      offset = part.next_offset;
    }
  }

  async listDir(args: ListDirectoryArgs): Promise<SandboxDirectoryEntry[]> {
    this.#refuseUser(args.runAs);
    const path = this.serverPath(args.path);
    const found = await this.#try('read', { path: args.path }, () =>
      this.call<{ kind: string; entries: { name: string; kind: string }[] }>('raw_stat', { path, list: true }),
    );
    if (found.kind !== 'directory') {
      throw sandboxError(new ServerError(`not_a_directory: ${args.path} is not a directory`), 'read', { path: args.path });
    }
    const types: Record<string, SandboxDirectoryEntry['type']> = { directory: 'dir', file: 'file' };
    return found.entries.map(({ name, kind }) => ({
      name,
      path: path === '.' ? name : `${path}/${name}`,
      type: types[kind] ?? 'other',
    }));
  }

  // Manifest

  async materializeEntry(args: MaterializeEntryArgs): Promise<void> {
    this.#refuseUser(args.runAs);
    const entry = structuredClone(args.entry);
    await withExclusiveSandboxManifestMutation(this.state, async () => {
      const path = this.serverPath(args.path, true);
      const logical = path === '.' ? '' : path;
      const delta = new Manifest({ root: this.state.manifest.root, entries: logical === '' ? {} : { [logical]: entry } });
      this.#refuseNewGrants(delta);
      const members = logical === '' && entry.type === 'dir'
        ? await archiveOf(entry.children ?? {}, this.state.manifest.extraPathGrants)
        : await archiveOf({ [logical]: entry }, this.state.manifest.extraPathGrants);
      await this.#unpack(members, args.path);
      this.state.manifest = mergeManifestEntryDelta(this.state.manifest, logical, entry);
    });
  }

  async applyManifest(manifest: Manifest, runAs?: string): Promise<void> {
    this.#refuseUser(runAs);
    const delta = cloneManifest(manifest);
    await withExclusiveSandboxManifestMutation(this.state, async () => {
      assertManifestSupported(delta);
      this.#refuseNewGrants(delta);
      await this.materialize(delta);
      this.state.environment = { ...this.state.environment, ...(await delta.resolveEnvironment()) };
      this.state.manifest = mergeManifestDelta(this.state.manifest, delta);
    });
  }

  /** Makes the entries of a manifest, all of them or none. */
  async materialize(manifest: Manifest): Promise<void> {
    const grants = [...this.state.manifest.extraPathGrants, ...manifest.extraPathGrants];
    await this.#unpack(await archiveOf(manifest.entries, grants), '.');
  }

  async #unpack(members: TarEntry[], path: string): Promise<void> {
    if (members.length > 0) {
      await this.#try('write', { path }, () => this.#send(writeTar(members), { exact: true }));
    }
  }

  /** Grants are fixed when a session starts: the kernel holds its commands to them. */
  #refuseNewGrants(delta: Manifest): void {
    const has = grantsOf(this.state.manifest);
    const wants = grantsOf(delta);
    const news = [
      ...wants.write.filter((path) => !has.write.includes(path)),
      ...wants.read.filter((path) => !has.read.includes(path) && !has.write.includes(path)),
    ];
    if (news.length > 0) {
      throw new SandboxUnsupportedFeatureError(
        `A running session cannot be granted further paths (${news.join(', ')}): name them in the manifest it is created with.`,
        { feature: 'manifest.extraPathGrants', paths: news },
      );
    }
  }

  // Archives

  setArchiveLimits(limits?: SandboxArchiveLimits | null): void {
    validateSandboxArchiveLimits(limits);
    this.#limits = limits;
  }

  async persistWorkspace(): Promise<Uint8Array> {
    const skip = [...this.state.manifest.ephemeralPersistencePaths()].filter((path) => path !== '');
    return await this.#try('archive', {}, async () => {
      const parts: Uint8Array[] = [];
        type Part = { data: string; export_id?: string; next_offset?: number };
      let part = await this.call<Part>('raw_export', { skip, limit: partBytes }, archiveMs);
      for (;;) {
        parts.push(Buffer.from(part.data, 'base64'));
        if (part.next_offset === undefined) {
          return new Uint8Array(Buffer.concat(parts));
        }
        part = await this.call<Part>('raw_export', { export_id: part.export_id, offset: part.next_offset, limit: partBytes });
      }
    });
  }

  async hydrateWorkspace(data: WorkspaceArchiveData, options: WorkspaceArchiveOptions = {}): Promise<void> {
    const limits = resolveSandboxArchiveLimits(options.archiveLimits === undefined ? this.#limits : options.archiveLimits);
    const given = typeof data === 'string' ? new TextEncoder().encode(data) : data instanceof Uint8Array ? data : new Uint8Array(data);
    const most = limits?.maxInputBytes;
    if (most != null && given.byteLength > most) {
      throw new SandboxArchiveError('Workspace archive input size exceeds limit.', {
        reason: 'archive input size exceeds limit', limit: most, actual: given.byteLength,
      });
    }
    const tar = tarOfJSON(given) ?? given;
    await this.#try('archive', {}, () =>
      this.#send(tar, {
        replace: true,
        exact: true,
        max_input_bytes: unlimited,
        max_extracted_bytes: limits?.maxExtractedBytes ?? unlimited,
        max_members: Math.min(limits?.maxMembers ?? unlimited, 2 ** 31 - 1),
      }),
    );
    // A mount is a link, which the archive left out.
    const mounts = this.state.manifest.mountTargets().map(({ logicalPath, entry }) => [logicalPath, entry] as const);
    await this.#unpack(await archiveOf(Object.fromEntries(mounts), this.state.manifest.extraPathGrants), '.');
  }

  /** Sends an archive in parts that a message holds. */
  async #send(tar: Uint8Array, options: Record<string, unknown>): Promise<void> {
    let id: string | undefined;
    for (let at = 0; ; at += partBytes) {
      const more = at + partBytes < tar.length;
      const data = Buffer.from(tar.subarray(at, at + partBytes)).toString('base64');
      const taken = await this.call<{ import_id?: string }>('raw_import', {
        ...options, data, more, ...(id === undefined ? {} : { import_id: id }),
      }, archiveMs);
      if (!more) {
        return;
      }
      id = taken.import_id;
    }
  }

  // Ports

  async resolveExposedPort(port: number): Promise<ExposedPortEndpoint> {
    const inside = normalizeExposedPort(port);
    const configured = this.state.configuredExposedPorts ?? [];
    if (configured.length > 0 && !configured.includes(inside)) {
      throw new SandboxConfigurationError(`ConfinedSandboxClient was not configured to expose port ${inside}.`, {
        provider: 'ConfinedSandboxClient', port: inside, configuredPorts: configured,
      });
    }
    return await this.#try('port', { port: inside }, async () => {
      const open = await this.call<{ host: string; port: number }>('expose_port', { port: inside });
      return recordExposedPortEndpoint(this.state, { host: open.host, port: open.port, tls: false }, inside);
    });
  }
}

/** Two parts of what one command wrote. */
function joined(a: CommandResult, b: CommandResult): CommandResult {
  return {
    ...b,
    output: a.output + b.output,
    stdout: a.stdout + b.stdout,
    stderr: a.stderr + b.stderr,
    notices: [...(a.notices ?? []), ...(b.notices ?? [])],
  };
}

/** A result as the model reads it: as the SDK words it, and what the sandbox says. */
function told(result: ConfinedExecResult): string {
  const text = formatExecResponse(result);
  const notes = (result.notices ?? []).map((note) => `Note: ${note}`).join('\n');
  return notes === '' ? text : `${text}${text.endsWith('\n') ? '' : '\n'}${notes}\n`;
}


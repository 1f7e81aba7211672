import { randomBytes } from 'node:crypto';
import {
  cloneManifest,
  Manifest,
  normalizeExposedPort,
  normalizeSandboxClientCreateArgs,
  SandboxConfigError,
  SandboxUnsupportedFeatureError,
  validateSandboxArchiveLimits,
  type SandboxClient,
  type SandboxClientCreateArgs,
  type SandboxClientResumeOptions,
  type SandboxPreservedSessionReuseOptions,
  type SandboxSessionResumeValidationInput,
  type Snapshot,
} from '@openai/agents-core/sandbox';
import {
  assertHostPathGrantsRebound,
  assertSandboxSessionStateUsable,
  deserializeManifest,
  rehydratePersistedEnvironmentForRuntime,
  sanitizeEnvironmentForPersistence,
  serializeManifestRecord,
} from '@openai/agents-core/sandbox/internal';
import { Connection, operatorOptions, programTarget, type Target } from './connection.ts';
import { sandboxError, ServerError } from './errors.ts';
import { assertManifestSupported, grantsOf } from './manifest.ts';
import type { ConfinedSandboxClientOptions, ConfinedSandboxSessionState } from './options.ts';
import { ConfinedSandboxSession, type SessionHost } from './session.ts';
import { boundSpec, canLoad, dropSnapshot, loadSnapshot, plainSpec, saveSnapshot } from './snapshots.ts';
import { seal, stateDirOf, unseal } from './state.ts';

const backendId = 'mcp_sandbox';

/** A name that this adapter gave, which no changed state can replace. */
const ownName = /^agents-[0-9a-f]{32}$/;
const sandboxIdForm = /^[0-9a-f]{32}$/;

/**
 * Creates and resumes confined sandboxes: UnixLocalSandboxClient of the SDK, with
 * mcp-sandbox behind it. Each session has a server process of its own, or with `url` a
 * sandbox at a running server.
 */
export class ConfinedSandboxClient
  implements SandboxClient<ConfinedSandboxClientOptions, ConfinedSandboxSessionState>
{
  readonly backendId = backendId;
  readonly supportsDefaultOptions = true;
  readonly #options: ConfinedSandboxClientOptions;
  readonly #live = new Map<string, ConfinedSandboxSession>();

  /** Throws SandboxConfigError for options that contradict each other. */
  constructor(options: ConfinedSandboxClientOptions = {}) {
    checkOptions(options);
    this.#options = options;
  }

  async create(
    args?: SandboxClientCreateArgs<ConfinedSandboxClientOptions> | Manifest,
    manifestOptions?: ConfinedSandboxClientOptions,
  ): Promise<ConfinedSandboxSession> {
    const given = normalizeSandboxClientCreateArgs(args, manifestOptions);
    const options = { ...this.#options, ...given.options };
    checkOptions(options);
    const archiveLimits = given.archiveLimits === undefined ? options.archiveLimits : given.archiveLimits;
    validateSandboxArchiveLimits(archiveLimits);
    const manifest = cloneManifest(given.manifest);
    assertManifestSupported(manifest);
    const state: ConfinedSandboxSessionState = {
      manifest,
      workspaceRootPath: '',
      workspaceRootOwned: true,
      environment: await manifest.resolveEnvironment(),
      snapshotSpec: given.snapshot ?? options.snapshot ?? null,
      snapshot: null,
      configuredExposedPorts: [...new Set((options.exposedPorts ?? []).map(normalizeExposedPort))],
    };
    const session = new ConfinedSandboxSession(state, this.#host(options), archiveLimits);
    try {
      await session.start();
      await session.materialize(manifest);
    } catch (error) {
      await session.close().catch(() => {});
      throw error;
    }
    return this.#remember(session);
  }

  #remember(session: ConfinedSandboxSession): ConfinedSandboxSession {
    this.#live.set(String(keyOf(session.state)), session);
    return session;
  }

  /** The session goes on where it was; where its workspace is gone, it comes back from the snapshot. */
  async resume(
    state: ConfinedSandboxSessionState,
    resumeOptions: SandboxClientResumeOptions<ConfinedSandboxClientOptions> = {},
  ): Promise<ConfinedSandboxSession> {
    const options = { ...this.#options, ...resumeOptions.clientOptions };
    checkOptions(options);
    this.validateSessionStateForResume({ source: 'explicit', state }, resumeOptions);
    assertHostPathGrantsRebound(state);
    assertManifestSupported(state.manifest);
    const archiveLimits = resumeOptions.archiveLimits === undefined ? options.archiveLimits : resumeOptions.archiveLimits;
    const key = keyOf(state);
    const live = key === undefined ? undefined : this.#live.get(key);
    if (live !== undefined && (await live.running())) {
      return live;
    }
    const resumed = { ...state };
    const kept = await this.#kept(resumed, options);
    if (kept !== undefined) {
      const session = new ConfinedSandboxSession(resumed, this.#host(options), archiveLimits);
      await session.adopt(kept);
      return this.#remember(session);
    }
    if (!(await canLoad(state.snapshot, state.snapshotSpec))) {
      throw new SandboxConfigError('The sandbox workspace is gone and no snapshot of it can be restored; create a new session.');
    }
    delete resumed.sessionName;
    delete resumed.sandboxId;
    const session = new ConfinedSandboxSession(resumed, this.#host(options), archiveLimits);
    try {
      await session.start();
      await session.hydrateWorkspace(await loadSnapshot(state.snapshot as Snapshot, state.snapshotSpec));
    } catch (error) {
      await session.close().catch(() => {});
      throw error;
    }
    return this.#remember(session);
  }

  /** A connection to the session of a state, when the server still has it and nobody works in it. */
  async #kept(state: ConfinedSandboxSessionState, options: ConfinedSandboxClientOptions): Promise<Connection | undefined> {
    if (keyOf(state) === undefined) {
      return undefined;
    }
    const id = state.sandboxId === undefined ? {} : { sandbox_id: state.sandboxId };
    const connection = await Connection.open(targetOf(state, options)).catch((error: unknown) => {
      throw sandboxError(error, 'start');
    });
    try {
      const info = await connection.call<{ workspace: { path: string } }>('session_info', id);
      if (info.workspace.path === state.workspaceRootPath) {
        return connection;
      }
      // A session that was closed begins again under its name, with nothing in it.
      await connection.call('raw_close', id);
      await connection.close();
      return undefined;
    } catch (error) {
      await connection.close();
      if (error instanceof ServerError && ['session_not_found', 'already_exists'].includes(error.code)) {
        return undefined;
      }
      throw sandboxError(error, 'start');
    }
  }

  async delete(state: ConfinedSandboxSessionState): Promise<void> {
    const key = keyOf(state);
    const live = key === undefined ? undefined : this.#live.get(key);
    const session = live ?? new ConfinedSandboxSession({ ...state }, this.#host(this.#options));
    await session.close();
    await dropSnapshot(state.snapshot, state.snapshotSpec);
  }

  /**
   * A state for another process of this user on this machine. It holds no token, and
   * neither environment nor files in clear: see seal.
   */
  async serializeSessionState(state: ConfinedSandboxSessionState): Promise<Record<string, unknown>> {
    assertSandboxSessionStateUsable(state);
    const key = keyOf(state);
    const session = key === undefined ? undefined : this.#live.get(key);
    const spec = state.snapshotSpec ?? null;
    if (session !== undefined) {
      const snapshot = await saveSnapshot(spec, stateDirOf(this.#options.stateDir), () => session.persistWorkspace());
      const before = state.snapshot;
      state.snapshot = snapshot;
      if (before?.id !== snapshot?.id) {
        await dropSnapshot(before, spec);
      }
    }
    const open = openPart(state);
    const secret = { manifest: serializeManifestRecord(state.manifest), environment: sanitizeEnvironmentForPersistence(state) };
    return { ...open, exposedPorts: state.exposedPorts ?? null, sealed: await seal(stateDirOf(this.#options.stateDir), open, secret) };
  }

  /** Throws SandboxConfigError for a state that was changed or comes from elsewhere. */
  async deserializeSessionState(record: Record<string, unknown>): Promise<ConfinedSandboxSessionState> {
    const state = {
      workspaceRootPath: String(record.workspaceRootPath),
      workspaceRootOwned: true,
      ...(typeof record.sessionName === 'string' ? { sessionName: record.sessionName } : {}),
      ...(typeof record.sandboxId === 'string' ? { sandboxId: record.sandboxId } : {}),
      snapshotSpec: (record.snapshotSpec ?? null) as ConfinedSandboxSessionState['snapshotSpec'],
      snapshot: (record.snapshot ?? null) as Snapshot | null,
      configuredExposedPorts: (record.configuredExposedPorts ?? []) as number[],
    };
    const secret = (await unseal(stateDirOf(this.#options.stateDir), openPart(state), String(record.sealed))) as {
      manifest: Record<string, unknown>;
      environment: Record<string, string>;
    };
    // The runner brings the manifest that is trusted now.
    const manifest = deserializeManifest((record.manifest as never) ?? secret.manifest);
    const others = Object.entries(secret.environment).filter(([name]) => !(name in manifest.environment));
    return {
      ...state,
      snapshotSpec: boundSpec(record.snapshotSpec, this.#options.snapshot),
      manifest,
      environment: {
        ...Object.fromEntries(others),
        ...(await rehydratePersistedEnvironmentForRuntime(manifest, secret.environment)),
      },
      ...(record.exposedPorts ? { exposedPorts: record.exposedPorts as never } : {}),
    };
  }

  canPersistOwnedSessionState(): boolean {
    return true;
  }

  async canReusePreservedOwnedSession(
    state: ConfinedSandboxSessionState,
    _options?: SandboxPreservedSessionReuseOptions<ConfinedSandboxClientOptions>,
  ): Promise<boolean> {
    const key = keyOf(state);
    const session = key === undefined ? undefined : this.#live.get(key);
    return session !== undefined && (await session.running());
  }

  /** Refuses a state that names what no session of this client has. */
  validateSessionStateForResume(
    input: SandboxSessionResumeValidationInput<ConfinedSandboxSessionState>,
    _options?: SandboxClientResumeOptions<ConfinedSandboxClientOptions>,
  ): void {
    const { sessionName, sandboxId } = input.state as Partial<ConfinedSandboxSessionState>;
    if ((sessionName !== undefined && !ownName.test(sessionName)) || (sandboxId !== undefined && !sandboxIdForm.test(sandboxId))) {
      throw new SandboxConfigError('The sandbox session state names a session that this client did not create.');
    }
  }

  #host(options: ConfinedSandboxClientOptions): SessionHost {
    return {
      connect: async (state) => {
        if (options.url === undefined) {
          state.sessionName ??= `agents-${randomBytes(16).toString('hex')}`;
        }
        const connection = await Connection.open(targetOf(state, options));
        if (options.url !== undefined && state.sandboxId === undefined) {
          state.sandboxId = (await connection.call<{ sandbox_id: string }>('session_open', {})).sandbox_id;
        }
        return connection;
      },
      release: (state) => {
        const key = keyOf(state);
        if (key !== undefined) {
          this.#live.delete(key);
        }
      },
    };
  }
}

/** The part of a state that stays readable and may not be changed. */
function openPart(state: Partial<ConfinedSandboxSessionState>): Record<string, unknown> {
  return {
    workspaceRootPath: state.workspaceRootPath,
    ...(state.sessionName === undefined ? {} : { sessionName: state.sessionName }),
    ...(state.sandboxId === undefined ? {} : { sandboxId: state.sandboxId }),
    snapshotSpec: plainSpec(state.snapshotSpec),
    snapshot: state.snapshot ?? null,
    configuredExposedPorts: state.configuredExposedPorts ?? [],
  };
}

function keyOf(state: Partial<ConfinedSandboxSessionState>): string | undefined {
  return state.sandboxId ?? state.sessionName;
}

function targetOf(state: ConfinedSandboxSessionState, options: ConfinedSandboxClientOptions): Target {
  const { manifest } = state;
  const grants = grantsOf(manifest);
  if (options.url !== undefined) {
    if (grants.read.length + grants.write.length > 0) {
      throw new SandboxUnsupportedFeatureError('Paths of a server with a url are granted by its operator, not by a manifest.', {
        feature: 'manifest.extraPathGrants', paths: [...grants.read, ...grants.write],
      });
    }
    return { kind: 'address', url: options.url, token: options.token };
  }
  const own = ['--session', String(state.sessionName)];
  if (/^\/[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(manifest.root)) {
    own.push('--workspace-alias', manifest.root);
  }
  own.push(...grants.read.flatMap((path) => ['--read', path]), ...grants.write.flatMap((path) => ['--write', path]));
  const ports = state.configuredExposedPorts ?? [];
  own.push(...(ports.length === 0 ? ['--expose', 'any'] : ports.flatMap((port) => ['--expose', String(port)])));
  return programTarget(options, own);
}

function checkOptions(options: ConfinedSandboxClientOptions): void {
  if (options.fileIOProtection === 'off') {
    throw new SandboxConfigError("fileIOProtection 'off' is not supported: file operations are always protected.");
  }
  if (options.token !== undefined && options.url === undefined) {
    throw new SandboxConfigError('token is for a server with a url; leave it out, or name the url.');
  }
  if (options.url === undefined) {
    return;
  }
  const set = operatorOptions.filter((name) => options[name] !== undefined && name !== 'stateDir');
  if (set.length > 0) {
    throw new SandboxConfigError(`The operator of ${options.url} sets its policy; leave out ${set.join(', ')}.`);
  }
}


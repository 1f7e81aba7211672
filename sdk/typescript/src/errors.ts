import {
  SandboxApplyPatchDiffError,
  SandboxApplyPatchFileNotFoundError,
  SandboxApplyPatchPathError,
  SandboxArchiveError,
  SandboxConfigError,
  SandboxError,
  SandboxExecTimeoutError,
  SandboxExecTransportError,
  SandboxExposedPortUnavailableError,
  SandboxInvalidManifestPathError,
  SandboxProviderError,
  SandboxPtySessionNotFoundError,
  SandboxSnapshotNotRestorableError,
  SandboxWorkspaceArchiveReadError,
  SandboxWorkspaceArchiveWriteError,
  SandboxWorkspaceReadNotFoundError,
  SandboxWorkspaceRootNotFoundError,
  SandboxWorkspaceStartError,
} from '@openai/agents-core/sandbox';

/** What was being done when the server refused: one code means different things. */
export type Operation = 'start' | 'exec' | 'stdin' | 'read' | 'write' | 'patch' | 'archive' | 'port';

/** The server's error: a code of docs/errors.md, its sentence, and its next step. */
export class ServerError extends Error {
  readonly code: string;
  constructor(text: string) {
    const at = text.search(/: /);
    const coded = /^[a-z_]+$/.test(text.slice(0, Math.max(at, 0)));
    super(coded ? text.slice(at + 2) : text);
    this.code = coded ? text.slice(0, at) : 'internal';
  }
}

/** The connection to the server was lost, or it never answered. */
export class ConnectionLost extends Error {}

/** Turns what a call failed with into the SDK's error of the same meaning. */
export function sandboxError(error: unknown, operation: Operation, details: Record<string, unknown> = {}): unknown {
  if (error instanceof SandboxError) {
    return error;
  }
  if (error instanceof ConnectionLost) {
    return new SandboxProviderError(error.message, { ...details, operation, retryable: true });
  }
  if (!(error instanceof ServerError)) {
    return error;
  }
  const { code, message } = error;
  const all = { ...details, operation, reason: code };
  const text = `${code}: ${message}`;
  if (code === 'session_not_found') {
    return new SandboxWorkspaceRootNotFoundError(text, all);
  }
  if (code === 'confinement_unavailable') {
    return operation === 'start' ? new SandboxWorkspaceStartError(text, all) : new SandboxExecTransportError(text, all);
  }
  switch (operation) {
    case 'start':
      return code === 'invalid_argument' ? new SandboxConfigError(text, all) : new SandboxWorkspaceStartError(text, all);
    case 'exec':
      switch (code) {
        case 'exec_timeout':
          return new SandboxExecTimeoutError(text, all);
        case 'path_outside_workspace':
          return new SandboxInvalidManifestPathError(text, all);
        case 'invalid_argument':
          return new SandboxConfigError(text, all);
      }
      return new SandboxExecTransportError(text, all);
    case 'stdin':
      return code === 'process_not_found' ? new SandboxPtySessionNotFoundError(text, all) : new SandboxExecTransportError(text, all);
    case 'read':
      switch (code) {
        case 'not_found':
          // The SDK's memory looks for the code of node:fs, its view_image for the words.
          return new SandboxWorkspaceReadNotFoundError(text, all);
        case 'path_outside_workspace':
          return new SandboxInvalidManifestPathError(text, all);
      }
      return new SandboxWorkspaceArchiveReadError(text, all);
    case 'write':
      return code === 'path_outside_workspace'
        ? new SandboxInvalidManifestPathError(text, all)
        : new SandboxWorkspaceArchiveWriteError(text, all);
    case 'patch':
      switch (code) {
        case 'not_found':
          return new SandboxApplyPatchFileNotFoundError(text, all);
        case 'path_outside_workspace':
        case 'path_protected':
        case 'invalid_argument':
          return new SandboxApplyPatchPathError(text, all);
        case 'patch_failed':
        case 'edit_not_found':
        case 'edit_not_unique':
        case 'conflict':
          return new SandboxApplyPatchDiffError(text, all);
      }
      return new SandboxWorkspaceArchiveWriteError(text, all);
    case 'archive':
      switch (code) {
        case 'unsafe_archive':
        case 'too_large':
        case 'unsupported_file_type':
          return new SandboxArchiveError(text, all);
        case 'snapshot_not_found':
          return new SandboxSnapshotNotRestorableError(text, all);
      }
      return new SandboxWorkspaceArchiveWriteError(text, all);
    case 'port':
      return new SandboxExposedPortUnavailableError(text, all);
  }
}

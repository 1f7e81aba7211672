import type {
  SandboxArchiveLimits,
  SandboxClientOptions,
  SandboxConcurrencyLimits,
  SandboxSessionState,
  Snapshot,
  SnapshotSpec,
} from '@openai/agents-core/sandbox';

/** What sessions may use and reach. Each is the setting of the server of the same name. */
export interface ConfinementPolicy {
  /** `none`, `loopback` (the default: a private 127.0.0.1), `allow` (see allowHosts) or `host`. */
  network?: 'none' | 'loopback' | 'allow' | 'host';
  allowHosts?: string[];
  denyHosts?: string[];
  /** Names of lists of hosts, such as `npm` or `github`. */
  allowPresets?: string[];
  /** Host paths that commands and file tools may read, or change. */
  read?: string[];
  write?: string[];
  /** Paths or patterns that can never be read. */
  denyRead?: string[];
  denySecrets?: boolean;
  /** Paths of the workspace that may not be changed. */
  protect?: string[];
  /** Weakest confinement to run with; the default refuses to run without any. */
  minConfinement?: 'namespaces' | 'namespaces-noproc' | 'landlock' | 'seatbelt' | 'none';
  limits?: {
    /** Bytes, or a text such as `512M`. */
    memory?: number | string;
    fileSize?: number | string;
    workspace?: number | string;
    tmp?: number | string;
    /** Processors, such as 1.5. */
    cpu?: number;
    procs?: number;
    openFiles?: number;
  };
}

/**
 * The options of the SDK's UnixLocalSandboxClient, and what is confined. With `url` the
 * sessions are those of a running server, whose operator has set the policy: options
 * that would change it are refused.
 */
export interface ConfinedSandboxClientOptions extends SandboxClientOptions, ConfinementPolicy {
  /** Taken for compatibility: file operations are always protected. */
  fileIOProtection?: 'auto' | 'required' | 'off';
  /** Directory that workspaces are made in; default: the system's temporary one. */
  workspaceBaseDir?: string;
  snapshot?: SnapshotSpec;
  defaultShell?: string;
  exposedPorts?: number[];
  concurrencyLimits?: SandboxConcurrencyLimits;
  archiveLimits?: SandboxArchiveLimits | null;

  /** The mcp-sandbox program; default: `mcp-sandbox` on PATH. */
  binaryPath?: string;
  /** The server's own directory, see `--state-dir`. */
  stateDir?: string;
  /** Further arguments of the server. */
  args?: string[];
  /** A store for the server's own snapshots, see `--snapshot-store`. */
  snapshotStore?: string;

  /** Endpoint of a running server, such as `http://127.0.0.1:8080/mcp`. */
  url?: string;
  /** Its bearer token. It never becomes part of a session's state. */
  token?: string;
}

/** A session's state. What of it is serialised holds no value of the environment in clear. */
export interface ConfinedSandboxSessionState extends SandboxSessionState {
  /** Where the workspace is on the machine of the server. */
  workspaceRootPath: string;
  workspaceRootOwned: boolean;
  environment: Record<string, string>;
  /** Name of the session at a server of our own, or id of the sandbox at one with a url. */
  sessionName?: string;
  sandboxId?: string;
  snapshotSpec?: SnapshotSpec | null;
  snapshot?: Snapshot | null;
  configuredExposedPorts?: number[];
}

import { randomUUID } from 'node:crypto';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  isNoopSnapshotSpec,
  SandboxSnapshotNotRestorableError,
  SandboxSnapshotPersistError,
  SandboxSnapshotRestoreError,
  type RemoteSnapshotSpec,
  type Snapshot,
  type SnapshotSpec,
} from '@openai/agents-core/sandbox';

function isRemote(spec: SnapshotSpec | null | undefined): spec is RemoteSnapshotSpec {
  const store = (spec as RemoteSnapshotSpec | null | undefined)?.store;
  return spec?.type === 'remote' && typeof store?.save === 'function' && typeof store.load === 'function';
}

/** Stores a workspace's archive where spec says; null where it says nowhere. */
export async function saveSnapshot(
  spec: SnapshotSpec | null,
  stateDir: string,
  archive: () => Promise<Uint8Array>,
): Promise<Snapshot | null> {
  if (isNoopSnapshotSpec(spec)) {
    return null;
  }
  if (isRemote(spec)) {
    const saved = await spec.store.save({ id: spec.id, data: await archive(), metadata: spec.metadata });
    return { id: saved.id, type: 'remote', ...(saved.metadata ? { metadata: saved.metadata } : {}) };
  }
  if (spec && spec.type !== 'local') {
    throw new SandboxSnapshotPersistError(`Snapshots of type "${spec.type}" are not supported.`);
  }
  const data = await archive();
  const id = randomUUID();
  const dir = typeof spec?.baseDir === 'string' ? spec.baseDir : join(stateDir, 'agents-snapshots');
  const path = join(dir, `${id}.tar`);
  const part = `${path}.part`;
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const file = await open(part, 'wx', 0o600);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw new SandboxSnapshotPersistError(`The snapshot could not be written to ${dir}: ${String(error)}`, { path });
  }
  return { id, type: 'local', path };
}

/** Whether loadSnapshot would find something. */
export async function canLoad(snapshot: Snapshot | null | undefined, spec: SnapshotSpec | null | undefined): Promise<boolean> {
  if (snapshot?.type === 'remote') {
    if (!isRemote(spec)) {
      return false;
    }
    return spec.store.exists ? await spec.store.exists({ id: snapshot.id }) : true;
  }
  return snapshot?.type === 'local' && (await stat(String(snapshot.path)).catch(() => undefined))?.isFile() === true;
}

export async function loadSnapshot(snapshot: Snapshot, spec: SnapshotSpec | null | undefined): Promise<Uint8Array> {
  if (!(await canLoad(snapshot, spec))) {
    throw new SandboxSnapshotNotRestorableError(`The snapshot ${snapshot.id} is not there any more.`, { id: snapshot.id });
  }
  try {
    return isRemote(spec) && snapshot.type === 'remote'
      ? (await spec.store.load({ id: snapshot.id })).data
      : await readFile(String(snapshot.path));
  } catch (error) {
    throw new SandboxSnapshotRestoreError(`The snapshot ${snapshot.id} could not be read: ${String(error)}`, { id: snapshot.id });
  }
}

/** Removes a snapshot that another has replaced. */
export async function dropSnapshot(snapshot: Snapshot | null | undefined, spec: SnapshotSpec | null | undefined): Promise<void> {
  if (snapshot?.type === 'local') {
    await rm(String(snapshot.path), { force: true });
  } else if (snapshot?.type === 'remote' && isRemote(spec)) {
    await spec.store.delete?.({ id: snapshot.id }).catch(() => undefined);
  }
}

/** A spec as JSON can hold it: a remote store is bound again from the client's options. */
export function plainSpec(spec: SnapshotSpec | null | undefined): Record<string, unknown> | null {
  if (!spec) {
    return null;
  }
  const { store: _store, ...rest } = spec as Record<string, unknown>;
  return rest;
}

export function boundSpec(plain: unknown, configured: SnapshotSpec | undefined): SnapshotSpec | null {
  if (typeof plain !== 'object' || plain === null) {
    return null;
  }
  const spec = plain as SnapshotSpec;
  if (spec.type !== 'remote') {
    return spec;
  }
  return isRemote(configured) ? { ...spec, store: configured.store } : null;
}

import { applyDiff, type ApplyPatchResult, type Editor } from '@openai/agents-core';
import { SandboxApplyPatchDecodeError, SandboxApplyPatchDiffError } from '@openai/agents-core/sandbox';
import { sandboxError } from './errors.ts';
import type { ConfinedSandboxSession } from './session.ts';

type Operation<Name extends keyof Editor> = Parameters<Editor[Name]>[0];

/**
 * Applies the operations of apply_patch. The diff is applied by the SDK, so that it means
 * what it means elsewhere; files are read and written by the server.
 */
export class ConfinedSandboxEditor implements Editor {
  readonly #session: ConfinedSandboxSession;

  constructor(session: ConfinedSandboxSession) {
    this.#session = session;
  }

  /** Says whether policy lets the path be edited, as far as the client knows it. */
  canAccessPathForEdit(path: string): boolean {
    try {
      this.#session.serverPath(path, true);
      return true;
    } catch {
      return false;
    }
  }

  async createFile(operation: Operation<'createFile'>): Promise<ApplyPatchResult> {
    const path = this.#session.serverPath(operation.path, true);
    await this.#write(path, { content: this.#diff(operation.path, '', operation.diff, 'create'), mode: 'create' });
    return {};
  }

  async updateFile(operation: Operation<'updateFile'>): Promise<ApplyPatchResult> {
    const path = this.#session.serverPath(operation.path, true);
    const to = operation.moveTo === undefined ? path : this.#session.serverPath(operation.moveTo, true);
    const { bytes, version } = await this.#session.readVersion(path, 'patch');
    let before: string;
    try {
      before = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new SandboxApplyPatchDecodeError(`The file is not UTF-8 text: ${operation.path}`, { path: operation.path });
    }
    const content = this.#diff(operation.path, before, operation.diff, 'default');
    if (to === path) {
      // Another writer since the read is a conflict, not lost work.
      await this.#write(path, { content, if_unchanged: version });
    } else {
      await this.#write(to, { content });
      await this.#call('rm', { path });
    }
    return {};
  }

  async deleteFile(operation: Operation<'deleteFile'>): Promise<ApplyPatchResult> {
    const path = this.#session.serverPath(operation.path, true);
    await this.#call('apply_patch', { patch: `*** Begin Patch\n*** Delete File: ${path}\n*** End Patch\n` });
    return {};
  }

  #diff(path: string, input: string, diff: string, mode: 'default' | 'create'): string {
    try {
      return applyDiff(input, diff, mode);
    } catch (error) {
      throw new SandboxApplyPatchDiffError(error instanceof Error ? error.message : String(error), { path });
    }
  }

  async #write(path: string, args: Record<string, unknown>): Promise<void> {
    // As bytes, which the server writes as they are.
    const content = Buffer.from(args.content as string, 'utf8').toString('base64');
    await this.#call('write_file', { path, ...args, content, encoding: 'base64' });
  }

  async #call(tool: string, args: Record<string, unknown>): Promise<void> {
    try {
      await this.#session.call(tool, args);
    } catch (error) {
      throw sandboxError(error, 'patch', { path: args.path });
    }
  }
}

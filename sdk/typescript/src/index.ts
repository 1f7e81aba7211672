export { ConfinedSandboxClient } from './client.ts';
export { ConfinedSandboxSession, type ConfinedExecResult } from './session.ts';
export { ConfinedSandboxEditor } from './editor.ts';
export type { ConfinedSandboxClientOptions, ConfinedSandboxSessionState, ConfinementPolicy } from './options.ts';

import { setTracingDisabled, type RunItem } from '@openai/agents';
import { assistantMessage, functionCall, ScriptedModel } from '@openai/agents/testing';

setTracingDisabled(true);

/**
 * Stands for a model, so that the example needs no key: it looks at the project, and
 * then, as one that was talked into it would, for the key of whoever runs it.
 */
export const model = new ScriptedModel([
  [functionCall('exec_command', { cmd: 'ls; cat README.md' }, { callId: 'call-1' })],
  [functionCall('exec_command', { cmd: `cat ${process.env.HOME}/.ssh/id_rsa` }, { callId: 'call-2' })],
  [assistantMessage('A tiny demo project with one Python file.')],
]);

/** Prints each command with what it gave, and the answer. */
export function print(result: { newItems: RunItem[]; finalOutput?: unknown }): void {
  for (const item of result.newItems) {
    const raw = item.rawItem as { arguments?: string; output?: unknown } | undefined;
    if (item.type === 'tool_call_item') {
      console.log(`$ ${(JSON.parse(raw?.arguments ?? '{}') as { cmd: string }).cmd.replace(String(process.env.HOME), '~')}`);
    } else if (item.type === 'tool_call_output_item') {
      const text = String(item.output);
      console.log(text.slice(text.indexOf('Output:\n') + 8).trimEnd().replaceAll(String(process.env.HOME), '~'));
    }
  }
  console.log(`\n${String(result.finalOutput)}`);
}

import { run } from '@openai/agents';
import { Manifest, SandboxAgent, shell } from '@openai/agents/sandbox';
import { ConfinedSandboxClient as UnixLocalSandboxClient } from 'mcp-sandbox-agents';
import { model, print } from './model.ts';

const client = new UnixLocalSandboxClient();

const manifest = new Manifest({
  entries: {
    'README.md': { type: 'file', content: '# Demo Project\n\nA tiny project in a sandbox.\n' },
    'src/app.py': { type: 'file', content: 'def greet(name):\n    return f"Hello, {name}!"\n' },
  },
});
const session = await client.create(manifest);
const agent = new SandboxAgent({
  name: 'Sandbox Assistant',
  model,
  instructions: 'Answer questions about the sandbox workspace. Inspect the project once before answering.',
  defaultManifest: manifest,
  capabilities: [shell()],
});
try {
  const result = await run(agent, 'Summarize this sandbox project.', { sandbox: { session } });
  print(result);
} finally {
  await session.close();
}
